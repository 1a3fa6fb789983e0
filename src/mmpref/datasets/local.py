"""Preference pairs in a file of one's own: JSON lines, a JSON array, CSV or Parquet.

A row has `prompt`, `chosen`, `rejected`, one `image` or a list of `images`, and may have an `id`.
Images are paths, relative to the file unless told otherwise. Absolute paths and paths out of the
folder are followed: the file is the user's own, and so is what it names.
"""

import csv
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mmpref.datasets.dataset import Dataset
from mmpref.errors import InputError
from mmpref.records.rows import IMAGE_PLACEHOLDER, Candidate, Quarantined

COLUMNS = ("id", "image", "images", "prompt", "chosen", "rejected")

Alternatives = list[tuple[str, ...]]
"""The columns a file must have: of each tuple at least one."""

Row = tuple[int, dict[str, Any]] | Quarantined


class LocalDataset(Dataset):
    """Pairs of one's own: a JSON Lines, CSV or Parquet file with image paths."""

    source: Literal["local"]
    file: str = Field(description="path of the file")
    images: str | None = Field(None, description="folder of the images; default: the file's")
    columns: dict[str, str] = Field(
        default_factory=dict, description="own column names, for example {prompt: question}"
    )

    @property
    def files(self) -> tuple[str, ...]:
        """The file; images are read by their paths, and not watched."""
        return (self.file,)

    def rows(self, seed: int, require_rejected: bool) -> Iterator[Candidate | Quarantined]:
        """Yield the rows of the file; see `read_local`."""
        return read_local(self.file, self.images, self.columns, require_rejected)


def read_local(
    path: str | Path,
    image_folder: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    require_rejected: bool = True,
) -> Iterator[Candidate | Quarantined]:
    """Yield the rows of a user's file (.jsonl, .json, .csv, .parquet) for `write_valid_pairs`.

    Rows count as the user sees them: lines of JSON lines, spreadsheet rows of CSV (the header is
    row 1), elements of a JSON array and rows of Parquet from 1. Lines that cannot be read come as
    `Quarantined`. Image paths are relative to `image_folder`, by default the file's own.

    `columns` gives the file's name for a column that is called otherwise there, as in
    `{"prompt": "question"}`. A prompt or answer may be text or a conversation of one message;
    LLaVA's placeholder `<image>` is removed from prompts. A row without id gets one made of its
    content, the same wherever the row stands. Without `require_rejected`, `rejected` may be absent.
    Further rejected answers are in the columns `rejected_2`, `rejected_3`, ...

    Raises InputError naming the file when it is missing, of another kind, not readable as a
    whole, or (CSV, Parquet) lacks a column.
    """
    path = Path(path)
    names = {name: name for name in COLUMNS} | dict(columns or {})
    if unknown := sorted(set(names) - set(COLUMNS)):
        raise InputError(
            f"{path}: columns names {', '.join(unknown)}, which a preference pair does not have; "
            f"choose among {', '.join(COLUMNS)}"
        )
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise InputError(
            f"{path}: files of type {suffix or '(no suffix)'} are not supported; "
            f"convert it to one of {', '.join(_READERS)}"
        )
    if not path.is_file():
        raise InputError(f"{path}: does not exist or is not a file; correct the path")
    folder = Path(image_folder) if image_folder is not None else path.parent
    required = [(names["image"], names["images"]), (names["prompt"],), (names["chosen"],)]
    if require_rejected:
        required.append((names["rejected"],))
    for row in _READERS[suffix](path, required):
        if isinstance(row, Quarantined):
            yield row
        else:
            number, values = row
            found = {name: values.get(names[name]) for name in names}
            others = (values.get(f"rejected_{n}") for n in itertools.count(2))
            more = [_text(text) for text in itertools.takewhile(_is_there, others)]
            yield _candidate(path, number, found, more, folder)


def _is_there(value: Any) -> bool:
    return value is not None


def _candidate(
    path: Path, number: int, values: dict[str, Any], more_rejected: list[Any], folder: Path
) -> Candidate:
    prompt = _text(values["prompt"])
    if isinstance(prompt, str):
        prompt = prompt.replace(IMAGE_PLACEHOLDER, "").strip()
    images = values["images"] if values["images"] is not None else values["image"]
    if isinstance(images, str | bytes | dict):
        images = [images]
    if isinstance(images, list):
        images = [_image(image, folder) for image in images]
    identifier = values["id"]
    if identifier is None or identifier == "":
        content = {name: values[name] for name in COLUMNS if name != "id"}
        canonical = json.dumps(content, sort_keys=True, default=_digest)
        identifier = hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()
    elif isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    return Candidate(
        file=str(path),
        row=number,
        id=identifier,
        images=images,
        prompt=prompt,
        chosen=_text(values["chosen"]),
        rejected=_text(values["rejected"]),
        source=path.name,
        meta={"row": number},
        more_rejected=more_rejected,
    )


def _digest(value: Any) -> str:
    data = value if isinstance(value, bytes) else str(value).encode()
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _text(value: Any) -> Any:
    """Return the text of a conversation of one message (TRL's form), anything else as it is."""
    match value:
        case [{"content": str(text)}]:
            return text
        case [{"content": [*parts]}] if all(isinstance(part, dict) for part in parts):
            return "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    return value


def _image(image: Any, folder: Path) -> Any:
    """Return an image's bytes or path; anything that is neither as it is."""
    match image:
        case {"bytes": bytes(data)}:
            return data
        case {"path": str(name)} | str(name) if "://" not in name and not name.startswith("data:"):
            return folder / name
    return image


def _read_json_lines(path: Path, required: Alternatives) -> Iterator[Row]:
    with _open_text(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield _unreadable(path, number, f"is not JSON ({error})", line.rstrip("\n"))
                else:
                    yield _object(path, number, value)


def _read_json(path: Path, required: Alternatives) -> Iterator[Row]:
    with _open_text(path) as file:
        try:
            values = json.load(file)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: is not JSON ({error}); correct it there") from error
    if not isinstance(values, list):
        raise InputError(f"{path}: must be a JSON array of rows, is {type(values).__name__}")
    for number, value in enumerate(values, 1):
        yield _object(path, number, value)


def _read_csv(path: Path, required: Alternatives) -> Iterator[Row]:
    with _open_text(path, newline="") as file:
        record: list[str] = []  # the lines of the current one, for quotes that do not match

        def lines() -> Iterator[str]:
            for line in file:
                record.append(line)
                yield line

        reader = csv.reader(lines(), strict=True)
        header: list[str] = []
        for number in itertools.count(1):
            record.clear()
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield _unreadable(path, number, f"is not CSV ({error})", "".join(record))
                continue
            if not header:
                header = cells
                _demand_columns(path, header, required)
            elif len(cells) == len(header):
                # CSV has no null: an empty cell is a value that is not there.
                pairs = zip(header, cells, strict=True)
                yield number, {name: cell if cell else None for name, cell in pairs}
            elif cells:
                reason = (
                    f"does not have as many cells as the header ({len(cells)}, not {len(header)})"
                )
                yield _unreadable(path, number, reason, "".join(record))


def _read_parquet(path: Path, required: Alternatives) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Streamed: others write row groups of gigabytes.
        with pq.ParquetFile(path, buffer_size=2**20) as file:
            _demand_columns(path, file.schema_arrow.names, required)
            number = 0
            for batch in file.iter_batches(batch_size=64):
                for values in batch.to_pylist():
                    number += 1
                    yield number, values
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read as a Parquet file ({error}); write it again"
        ) from error


_READERS: dict[str, Callable[[Path, Alternatives], Iterator[Row]]] = {
    ".jsonl": _read_json_lines,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


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


def _object(path: Path, number: int, value: Any) -> Row:
    if isinstance(value, dict):
        return number, value
    reason = f"should be an object with the row's columns (is {type(value).__name__})"
    return _unreadable(path, number, reason, json.dumps(value))


def _unreadable(path: Path, number: int, reason: str, line: str) -> Quarantined:
    return Quarantined(str(path), number, "", "row", reason, {"line": line})
