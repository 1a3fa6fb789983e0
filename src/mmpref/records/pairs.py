"""The preference record, its Parquet file, and what happens to rows that are none.

A source yields `Candidate`s: rows as they were found, unchecked. `validate` turns each into a
`Pair` or into a `Quarantined` row that says what is wrong with it; `write_valid_pairs` writes the
ones to `pairs.parquet` and the others to `quarantine.jsonl` beside it.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmpref.errors import InputError
from mmpref.files import replacing
from mmpref.records.images import read_image_file, storable_image
from mmpref.records.rows import IMAGE_PLACEHOLDER, Candidate, Pair, Quarantined

QUARANTINE = "quarantine.jsonl"

ROW_GROUP_ROWS = 1000
ROW_GROUP_BYTES = 64 * 2**20

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
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
}
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("images", pa.list_(_IMAGE)),
        ("prompt", pa.list_(_MESSAGE)),
        ("chosen", pa.list_(_MESSAGE)),
        ("rejected", pa.list_(_MESSAGE)),
        ("source", pa.string()),
        ("meta", pa.string()),
    ],
    # Tells `datasets` that `images` holds images.
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


def validate(
    candidates: Iterable[Candidate | Quarantined], require_rejected: bool = True
) -> Iterator[Pair | Quarantined]:
    """Yield one `Pair` or `Quarantined` for each candidate, in order.

    Texts lose white space around them, images become what `storable_image` says. A row that its
    source could not even read comes in as `Quarantined` and is passed on. With `require_rejected`
    off, rows may lack the rejected answer, for a sampler to draw it.
    """
    places: dict[str, str] = {}
    for candidate in candidates:
        if isinstance(candidate, Quarantined):
            yield candidate
            continue
        try:
            pair = _pair(candidate, require_rejected)
            if pair.id in places:
                raise _FieldError("id", f"is not unique (first in {places[pair.id]})")
        except _FieldError as error:
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
    path: str | Path, candidates: Iterable[Candidate | Quarantined], require_rejected: bool = True
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

    Returns how many. Equal pairs give equal bytes. A pair without rejected answer gets an empty
    list of messages there, which `read_pairs` refuses unless told otherwise.
    """
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(
            temporary,
            SCHEMA,
            compression="zstd",
            # Answers and images hardly repeat: a dictionary and the extremes only cost space.
            use_dictionary=["source"],
            write_statistics=["id"],
            write_page_checksum=True,
        ) as writer,
    ):
        rows: list[dict[str, Any]] = []
        count = size = 0
        for pair in pairs:
            count += 1
            rows.append(_row(pair))
            size += sum(map(len, pair.images))
            if len(rows) == ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                rows, size = [], 0
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
    return count


def read_pairs(path: str | Path, require_rejected: bool = True) -> list[Pair]:
    """Return the pairs of a file that `write_pairs` wrote, or of one that looks the same.

    Raises InputError naming the file, and the row and the field where there is one, when it is no
    such file, when a text is missing or empty, when an image is not embedded or an id occurs twice.
    `require_rejected` is that of `validate`.
    """
    pairs: list[Pair] = []
    ids: set[str] = set()
    for number, row in enumerate(read_rows(path, SCHEMA), 1):
        try:
            pair = _pair_of_row(row, require_rejected)
            if pair.id in ids:
                raise _FieldError("id", f"{pair.id!r} occurs twice; make ids unique")
        except _FieldError as error:
            raise InputError(f"{path}, row {number}, {error.field}: {error.reason}") from None
        ids.add(pair.id)
        pairs.append(pair)
    return pairs


def read_rows(path: str | Path, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file as dictionaries with the columns of `schema`.

    Raises InputError naming the file when it cannot be read as Parquet, and the column when that
    is missing or not of the type that `schema` demands. Rows come in the file's order.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            present = file.schema_arrow
            for column in schema:
                where = f"{path}, column {column.name}"
                if present.get_field_index(column.name) < 0:
                    raise InputError(
                        f"{where}: missing; the file has {', '.join(present.names)}. "
                        "Rename the column or write the file with mmpref."
                    )
                found = present.field(column.name).type
                if not _same_shape(found, column.type):
                    raise InputError(f"{where}: must be {column.type}, is {found}. Convert it.")
            missing = file.metadata.num_rows
            for batch in file.iter_batches(batch_size=64, columns=schema.names):
                missing -= len(batch)
                yield from batch.to_pylist()
            if missing:
                raise ValueError(f"its rows and their number differ by {missing}")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Make it, or correct the path.") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as a Parquet file ({error}). It is damaged or of another "
            "format: remove it and make it again."
        ) from error


class _FieldError(Exception):
    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason


def _pair(candidate: Candidate, require_rejected: bool) -> Pair:
    """Return the pair a candidate is; raises _FieldError for the first thing that is wrong."""
    identifier = _text("id", candidate.id)
    prompt = _text("prompt", candidate.prompt)
    chosen = _text("chosen", candidate.chosen)
    if candidate.rejected is None and not require_rejected:
        rejected = ""
    else:
        rejected = _text("rejected", candidate.rejected)
    if chosen.split() == rejected.split():
        raise _FieldError("rejected", "is the same as chosen")
    if not isinstance(candidate.images, list | tuple):
        raise _FieldError("images", _should_be("a list of images", candidate.images))
    if not candidate.images:
        raise _FieldError("images", "is empty")
    images = []
    for image in candidate.images:
        if not isinstance(image, bytes | Path):
            raise _FieldError("images", _should_be("an image file", image))
        try:
            data = read_image_file(image) if isinstance(image, Path) else image
            images.append(storable_image(data))
        except InputError as error:
            raise _FieldError("images", str(error)) from error
    return Pair(
        identifier, tuple(images), prompt, chosen, rejected, candidate.source, candidate.meta
    )


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _FieldError(name, _should_be("text", value))
    if not value.strip():
        raise _FieldError(name, "is empty")
    if IMAGE_PLACEHOLDER in value:
        raise _FieldError(name, f"holds the placeholder {IMAGE_PLACEHOLDER}; remove it")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _FieldError(name, "is no valid Unicode") from None
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
    }


def _pair_of_row(row: dict[str, Any], require_rejected: bool) -> Pair:
    """Return the pair in a row of the Parquet file; raises _FieldError for what is wrong."""
    if not row["id"]:
        raise _FieldError("id", "is empty; give each row an id")
    if row["source"] is None:
        raise _FieldError("source", "is missing; write where the row comes from")
    if not row["images"]:
        raise _FieldError("images", "is empty; each pair needs an image")
    if any(image is None or not image["bytes"] for image in row["images"]):
        raise _FieldError("images", "is not embedded; write the image file's bytes into the row")
    if not row["rejected"] and require_rejected:
        raise _FieldError("rejected", "is empty; let a sampler draw it (BDHS) or write it")
    try:
        meta = json.loads(row["meta"] or "")
    except ValueError:
        meta = None
    if not isinstance(meta, dict):
        raise _FieldError("meta", "must be a JSON object; write {} when there is nothing to say")
    return Pair(
        id=row["id"],
        images=tuple(image["bytes"] for image in row["images"]),
        prompt=_message("prompt", row["prompt"], "user"),
        chosen=_message("chosen", row["chosen"], "assistant"),
        rejected=_message("rejected", row["rejected"], "assistant") if row["rejected"] else "",
        source=row["source"],
        meta=meta,
    )


def _message(name: str, messages: list[dict[str, str | None] | None] | None, role: str) -> str:
    message = messages[0] if messages and len(messages) == 1 else None
    content = message["content"] if message and message["role"] == role else None
    if not content or not content.strip():
        raise _FieldError(name, f"must hold one message of role {role} with a text")
    return content


def _same_shape(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether two types hold the same kind of values, in whatever width of offsets."""
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_list_view)
    if pa.types.is_list(wanted):
        return any(is_list(found) for is_list in lists) and _same_shape(
            found.value_type, wanted.value_type
        )
    if pa.types.is_struct(wanted):
        return (
            pa.types.is_struct(found)
            and {field.name for field in found} == {field.name for field in wanted}
            and all(_same_shape(found.field(field.name).type, field.type) for field in wanted)
        )
    if pa.types.is_string(wanted):
        return pa.types.is_string(found) or pa.types.is_large_string(found)
    if pa.types.is_binary(wanted):
        return pa.types.is_binary(found) or pa.types.is_large_binary(found)
    return found.equals(wanted)
