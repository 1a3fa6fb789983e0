"""The preference record, its Parquet file, and what happens to rows that cannot become one.

A source yields `Candidate`s: rows as they were found, unchecked. `validate` turns each into a
`Pair` or into a `Quarantined` row that says what is wrong with it; `write_valid_pairs` writes the
ones to `pairs.parquet` and the others to `quarantine.jsonl` beside it.
"""

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmpref.errors import InputError
from mmpref.files import replacing
from mmpref.records.folders import NamedImage
from mmpref.records.images import storable_image
from mmpref.records.parquet import IMAGES, POSITION, Rows, write_rows
from mmpref.records.rows import IMAGE_PLACEHOLDER, Candidate, Pair, Quarantined, RowError, Skipped

QUARANTINE = "quarantine.jsonl"

OPTIONAL = ("more_rejected", "position")
"""Columns that a file may lack."""

_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
_MESSAGE_FEATURE = {
    "feature": {
        "role": {"dtype": "string", "_type": "Value"},
        "content": {"dtype": "string", "_type": "Value"},
    },
    "_type": "List",
}
_TEXT_FEATURE = {"dtype": "string", "_type": "Value"}
_FEATURES = {
    "id": _TEXT_FEATURE,
    "images": {"feature": {"_type": "Image"}, "_type": "List"},
    "prompt": _MESSAGE_FEATURE,
    "chosen": _MESSAGE_FEATURE,
    "rejected": _MESSAGE_FEATURE,
    "source": _TEXT_FEATURE,
    "meta": _TEXT_FEATURE,
    "more_rejected": {"feature": _TEXT_FEATURE, "_type": "List"},
    "position": {"dtype": "int64", "_type": "Value"},
}
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        IMAGES,
        ("prompt", pa.list_(_MESSAGE)),
        ("chosen", pa.list_(_MESSAGE)),
        ("rejected", pa.list_(_MESSAGE)),
        ("source", pa.string()),
        ("meta", pa.string()),
        ("more_rejected", pa.list_(pa.string())),
        POSITION,
    ],
    # Tells `datasets` that `images` holds images.
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)
# Many pairs in a row are about one image, which need not be decoded for each.
_storable = lru_cache(maxsize=2)(storable_image)

TEXTS = tuple(name for name in SCHEMA.names if name not in ("images", "position"))


def validate(
    candidates: Iterable[Candidate | Quarantined | Skipped], require_rejected: bool = True
) -> Iterator[Pair | Quarantined]:
    """Yield one `Pair` or `Quarantined` for each candidate, in order; none for `Skipped`.

    Texts lose white space around them, images become what `storable_image` says. A row that its
    source could not even read comes in as `Quarantined` and is passed on. With `require_rejected`
    off, rows may lack the rejected answer, for a sampler to draw it.
    """
    places: dict[str, str] = {}
    for candidate in candidates:
        if isinstance(candidate, Quarantined):
            yield candidate
            continue
        if isinstance(candidate, Skipped):
            continue
        try:
            pair = _pair(candidate, require_rejected)
            if pair.id in places:
                raise RowError("id", f"is not unique (first in {places[pair.id]})")
        except RowError as error:
            yield Quarantined(
                candidate.file,
                candidate.row,
                "" if candidate.id is None else str(candidate.id),
                error.field,
                error.reason,
                _content(candidate),
            )
        else:
            places[pair.id] = f"{candidate.file}, row {candidate.row}"
            yield pair


def write_valid_pairs(
    path: str | Path,
    candidates: Iterable[Candidate | Quarantined | Skipped],
    require_rejected: bool = True,
) -> tuple[int, int]:
    """Write the valid pairs to `path`, the other rows to `quarantine.jsonl` beside it.

    Returns how many were kept and how many quarantined; together they are the candidates.
    `require_rejected` is that of `validate`. Raises InputError, naming the most frequent reasons,
    when no pair is left; the quarantine file is written even then.
    """
    path = Path(path)
    quarantined: list[Quarantined] = []

    def valid() -> Iterator[Pair]:
        for row in validate(candidates, require_rejected):
            if isinstance(row, Pair):
                yield row
            else:
                quarantined.append(row)

    pairs = valid()
    first = next(pairs, None)
    kept = write_pairs(path, chain([first], pairs)) if first else 0
    _write_quarantine(path.with_name(QUARANTINE), quarantined)
    if not kept:
        raise InputError(
            f"No preference pair is left for {path} of {len(quarantined)} rows read. "
            f"{_most_frequent(quarantined) or 'The source is empty'}. Correct these rows; "
            f"all are listed in {path.with_name(QUARANTINE)}."
        )
    return kept, len(quarantined)


def write_pairs(path: str | Path, pairs: Iterable[Pair]) -> int:
    """Write pairs as a Parquet file that `datasets` loads and TRL's DPOTrainer trains on.

    Returns how many. Equal pairs give equal bytes; an image that several share is stored once. A
    pair without rejected answer gets an empty list of messages there, which `Pairs` refuses unless
    told otherwise.
    """
    return write_rows(path, SCHEMA, map(_row, pairs))


class Pairs(Rows[Pair]):
    """The pairs of a file that `write_pairs` wrote, or of one that looks the same, by number.

    A pair is read when it is asked for, in a time and with a memory that do not depend on the size
    of the file.

    InputError names the file, and the row and the field where there is one. Opening raises it when
    the file cannot be read, a text is missing or empty, or an id occurs twice; reading a pair, when
    its image is not embedded, or the file is damaged there or was changed after it was opened.
    `require_rejected` is that of `validate`.
    """

    def __init__(self, path: str | Path, require_rejected: bool = True) -> None:
        super().__init__(path, SCHEMA, OPTIONAL)
        self._require_rejected = require_rejected
        known: dict[str, int] = {}
        for place, pair in enumerate(self.without_images()):
            if pair.id in known:
                raise InputError(
                    f"{path}, row {place + 1}, id: {pair.id!r} occurs twice; make ids unique"
                )
            known[pair.id] = sum(map(len, pair.answers.values()))
        self._ids = list(known)
        self._lengths = np.fromiter(known.values(), np.int64, len(known))

    def record(self, row: dict[str, Any], place: int) -> Pair:
        """Return the pair that a row holds; without its images when they were not read."""
        try:
            return _pair_of_row(row, self._require_rejected)
        except RowError as error:
            raise InputError(
                f"{self.path}, row {place + 1}, {error.field}: {error.reason}"
            ) from None

    @property
    def ids(self) -> list[str]:
        """The ids, in the order of the pairs."""
        return [self._ids[place] for place in self.places]

    @property
    def answer_lengths(self) -> np.ndarray:
        """How many characters all answers of each pair have: (pairs,), int64."""
        return self._lengths[self.places]

    def without_images(self) -> Iterator[Pair]:
        """Yield all pairs of the file, in its order, with their texts only."""
        return map(self.record, self.scan(TEXTS), count())


def _pair(candidate: Candidate, require_rejected: bool) -> Pair:
    """Return the pair a candidate is; raises RowError for the first thing that is wrong."""
    identifier = _text("id", candidate.id)
    prompt = _text("prompt", candidate.prompt)
    chosen = _text("chosen", candidate.chosen)
    if candidate.rejected is None and not require_rejected:
        rejected = ""
    else:
        rejected = _text("rejected", candidate.rejected)
    if not isinstance(candidate.more_rejected, list | tuple):
        raise RowError("more_rejected", _should_be("a list of texts", candidate.more_rejected))
    more = tuple(_text("more_rejected", text) for text in candidate.more_rejected)
    for name, text in [("rejected", rejected), *(("more_rejected", text) for text in more)]:
        if chosen.split() == text.split():
            raise RowError(name, "is the same as chosen")
    if not isinstance(candidate.images, list | tuple):
        raise RowError("images", _should_be("a list of images", candidate.images))
    if not candidate.images:
        raise RowError("images", "is empty")
    images = []
    for image in candidate.images:
        if not isinstance(image, bytes | NamedImage):
            raise RowError("images", _should_be("an image file", image))
        try:
            images.append(_storable(image if isinstance(image, bytes) else image.read()))
        except InputError as error:
            raise RowError("images", str(error)) from error
    return Pair(
        id=identifier,
        images=tuple(images),
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        source=candidate.source,
        meta=candidate.meta,
        more_rejected=more,
    )


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise RowError(name, _should_be("text", value))
    if not value.strip():
        raise RowError(name, "is empty")
    if IMAGE_PLACEHOLDER in value:
        raise RowError(name, f"holds the placeholder {IMAGE_PLACEHOLDER}; remove it")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RowError(name, "is not valid Unicode") from None
    return value.strip()


def _should_be(wanted: str, value: Any) -> str:
    if value is None:
        return "is missing"
    return f"should be {wanted} (is {type(value).__name__})"


def _content(candidate: Candidate) -> dict[str, Any]:
    images = candidate.images
    return {
        "images": [
            f"<{len(image)} bytes>" if isinstance(image, bytes) else image for image in images
        ]
        if isinstance(images, list | tuple)
        else images,
        "prompt": candidate.prompt,
        "chosen": candidate.chosen,
        "rejected": candidate.rejected,
        "source": candidate.source,
        "meta": candidate.meta,
        **({"more_rejected": candidate.more_rejected} if candidate.more_rejected else {}),
    }


def _write_quarantine(path: Path, rows: Iterable[Quarantined]) -> None:
    # A lone surrogate, which JSON can escape and UTF-8 cannot hold, is escaped again.
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        for row in rows:
            file.write(json.dumps(vars(row), ensure_ascii=False, default=str) + "\n")


def _most_frequent(rows: Iterable[Quarantined]) -> str:
    """Return the three most frequent reasons in words, each with its first row."""
    alike: dict[tuple[str, str, str], list[Quarantined]] = {}
    for row in rows:
        alike.setdefault((row.file, row.field, row.reason.partition(" (")[0]), []).append(row)
    return "; ".join(
        f"{len(group)} x {group[0].field} {group[0].reason}, as in {group[0].file}, "
        f"row {group[0].row}"
        for group in sorted(alike.values(), key=len, reverse=True)[:3]
    )


def _row(pair: Pair) -> dict[str, Any]:
    rejected = [{"role": "assistant", "content": pair.rejected}] if pair.rejected else []
    return {
        "id": pair.id,
        "images": [{"bytes": image, "path": None} for image in pair.images],
        "prompt": [{"role": "user", "content": pair.prompt}],
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": rejected,
        "source": pair.source,
        "meta": json.dumps(pair.meta, sort_keys=True),
        "more_rejected": list(pair.more_rejected),
    }


def _pair_of_row(row: dict[str, Any], require_rejected: bool) -> Pair:
    """Return the pair in a row of the Parquet file; raises RowError for what is wrong."""
    images = row.get("images") or []
    if not row["id"]:
        raise RowError("id", "is empty; give each row an id")
    if row["source"] is None:
        raise RowError("source", "is missing; write where the row comes from")
    if "images" in row and not images:
        raise RowError("images", "is empty; each pair needs an image")
    if any(image is None or not image["bytes"] for image in images):
        raise RowError("images", "is not embedded; write the image file's bytes into the row")
    if not row["rejected"] and require_rejected:
        raise RowError("rejected", "is empty; let a sampler draw it (BDHS) or write it")
    more = row["more_rejected"] or []
    if not all(more):
        raise RowError("more_rejected", "has an empty text; leave it out")
    try:
        meta = json.loads(row["meta"] or "")
    except ValueError:
        meta = None
    if not isinstance(meta, dict):
        raise RowError("meta", "must be a JSON object; write {} when there is nothing to say")
    return Pair(
        id=row["id"],
        images=tuple(image["bytes"] for image in images),
        prompt=_message("prompt", row["prompt"], "user"),
        chosen=_message("chosen", row["chosen"], "assistant"),
        rejected=_message("rejected", row["rejected"], "assistant") if row["rejected"] else "",
        source=row["source"],
        meta=meta,
        more_rejected=tuple(more),
    )


def _message(name: str, messages: list[dict[str, str | None] | None] | None, role: str) -> str:
    message = messages[0] if messages and len(messages) == 1 else None
    content = message["content"] if message and message["role"] == role else None
    if not content or not content.strip():
        raise RowError(name, f"must hold one message of role {role} with a text")
    return content
