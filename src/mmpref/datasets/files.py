"""Files of rows: JSON lines, a JSON array, CSV or Parquet."""

import csv
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpref.errors import InputError
from mmpref.records.rows import Candidate, Quarantined, RowError, Skipped

if TYPE_CHECKING:
    from mmpref.records.folders import ImageFolder

Alternatives = list[tuple[str, ...]]
"""The columns a file must have: of each tuple at least one."""

Raw = Iterator[tuple[int, Any]]
"""The rows of a file by number; an unreadable one is a tuple of the reason and the line."""

Found = Iterator[Candidate | Quarantined | Skipped]

Make = Callable[[int, dict[str, Any]], Iterable[Candidate | Quarantined | Skipped]]
"""What makes candidates of a row, given its number."""


def read_rows(
    path: str | Path,
    make: Make,
    required: Alternatives | None = None,
) -> Found:
    """Yield what `make` yields for each row of a file, with the row's number.

    The file is .jsonl, .json (an array), .csv or .parquet; all but .json are read a few rows at a
    time. Rows count as the user sees them: lines of JSON lines, spreadsheet rows of CSV (the header
    is row 1), others from 1. A row that cannot be read, or for which `make` raises RowError, comes
    as `Quarantined`.

    Raises InputError when the file is missing, of another kind, not readable as a whole, or (CSV,
    Parquet) lacks a column of `required`.
    """
    path = Path(path)
    demand_file(path)
    for number, row in READERS[path.suffix.lower()](path, required or []):
        if isinstance(row, dict):
            yield from made(path, number, row, make)
        else:
            reason = f"should be an object with the row's columns (is {type(row).__name__})"
            reason, line = row if isinstance(row, tuple) else (reason, json.dumps(row))
            yield Quarantined(str(path), number, "", "row", reason, {"line": line})


def demand_file(path: Path) -> None:
    """Raise InputError when a file is missing or of a kind that `read_rows` does not read."""
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise InputError(
            f"{path}: files of type {suffix or '(no suffix)'} are not supported; "
            f"convert it to one of {', '.join(READERS)}"
        )
    if not path.is_file():
        raise InputError(f"{path}: does not exist or is not a file; correct the path")


def made(
    path: Path,
    number: int,
    row: dict[str, Any],
    make: Make,
) -> Found:
    """Yield what `make` yields for a row; what it raises as RowError, as `Quarantined`."""
    try:
        yield from make(number, row)
    except RowError as error:
        id = row.get("id")
        yield Quarantined(
            str(path),
            number,
            "" if id is None else str(id),
            error.field,
            error.reason,
            _without_bytes(row),
        )


def read_json(path: Path) -> Any:
    """Return what a JSON file holds. Raises InputError when it is missing or not JSON."""
    if not path.is_file():
        raise InputError(f"{path}: does not exist or is not a file; correct the path")
    with _open_text(path) as file:
        try:
            return json.load(file)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: is not JSON ({error}); correct it there") from error


def content_id(*values: Any) -> str:
    """Return an id that depends on the content of a row (JSON-like values and bytes) alone."""
    content = json.dumps(values, sort_keys=True, default=_digest)
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def image_of(value: Any, folder: "ImageFolder") -> Any:
    """Return the image that a row gives as path, bytes or {bytes, path}; else `value` as it is."""
    match value:
        case {"bytes": bytes(data)}:
            return data
        case {"path": str(name)} | str(name) if "://" not in name and not name.startswith("data:"):
            return folder.image(name)
    return value


def _digest(value: Any) -> str:
    data = value if isinstance(value, bytes) else str(value).encode()
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _without_bytes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_bytes(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_bytes(one) for one in value]
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else value


def _json_lines(path: Path, required: Alternatives) -> Raw:
    with _open_text(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield number, (f"is not JSON ({error})", line.rstrip("\n"))


def _json(path: Path, required: Alternatives) -> Raw:
    rows = read_json(path)
    if not isinstance(rows, list):
        raise InputError(f"{path}: must be a JSON array of rows, is {type(rows).__name__}")
    return enumerate(rows, 1)


def _csv(path: Path, required: Alternatives) -> Raw:
    with _open_text(path, newline="") as file:
        record: list[str] = []  # the lines of the current one, for quotes that do not match

        def noted(line: str) -> str:
            record.append(line)
            return line

        reader = csv.reader(map(noted, file), strict=True)
        header: list[str] = []
        for number in itertools.count(1):
            record.clear()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield number, (f"is not CSV ({error})", "".join(record))
                continue
            if not header:
                header = cells
                _demand_columns(path, header, required)
            elif len(cells) == len(header):
                # CSV has no null: an empty cell is a value that is not there.
                yield number, {name: cell or None for name, cell in zip(header, cells, strict=True)}
            elif cells:
                sizes = f"{len(cells)}, not {len(header)}"
                reason = f"does not have as many cells as the header ({sizes})"
                yield number, (reason, "".join(record))


def _parquet(path: Path, required: Alternatives) -> Raw:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Streamed: others write row groups of gigabytes.
        with pq.ParquetFile(path, buffer_size=2**20) as file:
            _demand_columns(path, file.schema_arrow.names, required)
            batches = file.iter_batches(batch_size=64)
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read as a Parquet file ({error}); write it again"
        ) from error


READERS = {".jsonl": _json_lines, ".json": _json, ".csv": _csv, ".parquet": _parquet}


def _open_text(path: Path, newline: str | None = None) -> Any:
    # What is not UTF-8 becomes lone surrogates, for which `validate` quarantines the row.
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def _demand_columns(path: Path, found: list[str], required: Alternatives) -> None:
    for names in required:
        if not set(names) & set(found):
            raise InputError(
                f"{path}: column {' or '.join(names)} is missing; the file has "
                f"{', '.join(found)}; rename a column, or name it in the option columns"
            )
