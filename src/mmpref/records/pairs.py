"""The pairs' Parquet file, and what happens to rows that cannot become a pair."""

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmpref.errors import InputError
from mmpref.files import replacing
from mmpref.records.folders import NamedImage
from mmpref.records.images import storable_image
from mmpref.records.parquet import IMAGE, TEXT, Rows, schema_of, write_rows
from mmpref.records.rows import IMAGE_PLACEHOLDER, Candidate, Pair, Quarantined, RowError, Skipped

QUARANTINE = "quarantine.jsonl"

_MESSAGES = pa.list_(pa.struct({"role": TEXT, "content": TEXT}))
SCHEMA = schema_of(
    id=TEXT,
    images=pa.list_(IMAGE),
    prompt=_MESSAGES,
    chosen=_MESSAGES,
    rejected=_MESSAGES,
    source=TEXT,
    meta=TEXT,
    more_rejected=pa.list_(TEXT),
)
# Many pairs in a row are about one image, which need not be decoded for each.
_storable = lru_cache(maxsize=2)(storable_image)


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
            _demand(pair.id not in places, "id", f"is not unique (first in {places.get(pair.id)})")
        except RowError as error:
            name = "" if candidate.id is None else str(candidate.id)
            content = _content(candidate)
            yield Quarantined(
                candidate.file, candidate.row, name, error.field, error.reason, content
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
    # A lone surrogate, which JSON can escape and UTF-8 cannot hold, is escaped again.
    with (
        replacing(path.with_name(QUARANTINE)) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        for row in quarantined:
            file.write(json.dumps(vars(row), ensure_ascii=False, default=str) + "\n")
    if not kept:
        raise InputError(
            f"No preference pair is left for {path} of {len(quarantined)} rows read. "
            f"{_most_frequent(quarantined) or 'The source is empty'}. Correct these rows; "
            f"all are listed in {path.with_name(QUARANTINE)}."
        )
    return kept, len(quarantined)


def write_pairs(path: str | Path, pairs: Iterable[Pair]) -> int:
    """Write pairs as a Parquet file that `datasets` loads and TRL trains on; return how many.

    Equal pairs give equal bytes. A missing rejected answer is an empty list of messages.
    """
    return write_rows(path, SCHEMA, map(_row, pairs))


class Pairs(Rows[Pair]):
    """The pairs of a file that `write_pairs` wrote, or of one that looks the same, by number.

    Opening raises InputError when the file cannot be read, a text is missing or empty, or an id
    occurs twice; reading a pair, when its image is not embedded, or the file is damaged there or
    was changed after it was opened. `require_rejected` is that of `validate`.
    """

    def __init__(self, path: str | Path, require_rejected: bool = True) -> None:
        super().__init__(path, SCHEMA, optional=("more_rejected", "position"))
        self._require_rejected = require_rejected
        known: dict[str, int] = {}
        for number, pair in enumerate(self.without_images(), 1):
            if pair.id in known:
                raise InputError(
                    f"{path}, row {number}, id: {pair.id!r} occurs twice; make ids unique"
                )
            known[pair.id] = sum(map(len, pair.answers.values()))
        self._ids = list(known)
        self._lengths = np.fromiter(known.values(), np.int64, len(known))

    def record(self, row: dict[str, Any], number: int) -> Pair:
        """Return the pair that a row holds; without its images when they were not read."""
        try:
            return _pair_of_row(row, self._require_rejected)
        except RowError as error:
            raise InputError(f"{self.path}, row {number}, {': '.join(error.args)}") from None

    @property
    def ids(self) -> list[str]:
        """The ids, in the order of the pairs."""
        return [self._ids[place] for place in self.places]

    @property
    def answer_lengths(self) -> np.ndarray:
        """How many characters all answers of each pair have: (pairs,), int64."""
        return self._lengths[self.places]


def _demand(condition: object, field: str, reason: str) -> None:
    if not condition:
        raise RowError(field, reason)


def _pair(candidate: Candidate, require_rejected: bool) -> Pair:
    """Return the pair a candidate is; raises RowError for the first thing that is wrong."""
    identifier = _text("id", candidate.id)
    prompt = _text("prompt", candidate.prompt)
    chosen = _text("chosen", candidate.chosen)
    sampled = candidate.rejected is None and not require_rejected
    rejected = "" if sampled else _text("rejected", candidate.rejected)
    _demand_type("more_rejected", candidate.more_rejected, list | tuple, "a list of texts")
    more = tuple(_text("more_rejected", text) for text in candidate.more_rejected)
    for name, text in [("rejected", rejected), *(("more_rejected", text) for text in more)]:
        _demand(chosen.split() != text.split(), name, "is the same as chosen")
    _demand_type("images", candidate.images, list | tuple, "a list of images")
    _demand(candidate.images, "images", "is empty")
    images = tuple(map(_image, candidate.images))
    source, meta = candidate.source, candidate.meta
    return Pair(identifier, images, prompt, chosen, rejected, source, meta, more)


def _text(name: str, value: Any) -> str:
    _demand_type(name, value, str, "text")
    _demand(value.strip(), name, "is empty")
    placeholder = f"holds the placeholder {IMAGE_PLACEHOLDER}; remove it"
    _demand(IMAGE_PLACEHOLDER not in value, name, placeholder)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RowError(name, "is not valid Unicode") from None
    return value.strip()


def _image(image: Any) -> bytes:
    _demand_type("images", image, bytes | NamedImage, "an image file")
    try:
        return _storable(image if isinstance(image, bytes) else image.read())
    except InputError as error:
        raise RowError("images", str(error)) from error


def _demand_type(name: str, value: Any, wanted: Any, words: str) -> None:
    _demand(value is not None, name, "is missing")
    _demand(isinstance(value, wanted), name, f"should be {words} (is {type(value).__name__})")


def _content(candidate: Candidate) -> dict[str, Any]:
    left_out = {"file", "row", "id"} | (set() if candidate.more_rejected else {"more_rejected"})
    content = {name: value for name, value in vars(candidate).items() if name not in left_out}
    if isinstance(candidate.images, list | tuple):
        content["images"] = [
            f"<{len(image)} bytes>" if isinstance(image, bytes) else image
            for image in candidate.images
        ]
    return content


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
    return vars(pair) | {
        "images": [{"bytes": image, "path": None} for image in pair.images],
        "prompt": [{"role": "user", "content": pair.prompt}],
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}] if pair.rejected else [],
        "meta": json.dumps(pair.meta, sort_keys=True),
    }


def _pair_of_row(row: dict[str, Any], require_rejected: bool) -> Pair:
    """Return the pair in a row of the Parquet file; raises RowError for what is wrong."""
    images = row.get("images") or []
    more = row.get("more_rejected") or []
    _demand(row["id"], "id", "is empty; give each row an id")
    _demand(row["source"] is not None, "source", "is missing; write where the row comes from")
    _demand(images or "images" not in row, "images", "is empty; each pair needs an image")
    for image in images:
        embedded = image and image["bytes"]
        _demand(embedded, "images", "is not embedded; write the image file's bytes into the row")
    if require_rejected:
        _demand(row["rejected"], "rejected", "is empty; let a sampler draw it (BDHS) or write it")
    _demand(all(more), "more_rejected", "has an empty text; leave it out")
    try:
        meta = json.loads(row["meta"] or "")
    except ValueError:
        meta = None
    nothing = "must be a JSON object; write {} when there is nothing to say"
    _demand(isinstance(meta, dict), "meta", nothing)
    files = tuple(image["bytes"] for image in images)
    prompt, chosen = _message(row, "prompt", "user"), _message(row, "chosen", "assistant")
    rejected = _message(row, "rejected", "assistant") if row["rejected"] else ""
    return Pair(row["id"], files, prompt, chosen, rejected, row["source"], meta, tuple(more))


def _message(row: dict[str, Any], name: str, role: str) -> str:
    message = row[name][0] if row[name] and len(row[name]) == 1 else None
    content = message["content"] if message and message["role"] == role else None
    fine = content and content.strip()
    _demand(fine, name, f"must hold one message of role {role} with a text")
    return str(content)
