"""Preference pairs in a file of one's own: JSON lines, a JSON array, CSV or Parquet."""

import csv
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mmpref.datasets.dataset import Dataset
from mmpref.errors import InputError
from mmpref.records.rows import IMAGE_PLACEHOLDER, Candidate, Quarantined

COLUMNS = ("id", "image", "images", "prompt", "chosen", "rejected")

Alternatives = list[tuple[str, ...]]
"""The columns a file must have: of each tuple at least one."""


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


Rows = Iterator[tuple[int, Any]]
"""The rows of a file by number; an unreadable one is a tuple of the reason and the line."""


def read_local(
    path: str | Path,
    image_folder: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    require_rejected: bool = True,
) -> Iterator[Candidate | Quarantined]:
    """Yield the rows of a user's file (.jsonl, .json, .csv, .parquet) for `write_valid_pairs`.

    Rows count as the user sees them: lines of JSON lines, spreadsheet rows of CSV (the header is
    row 1), others from 1. Lines that cannot be read come as `Quarantined`. Image paths are relative
    to `image_folder`, by default the file's own; those that lead out of it are followed.

    `columns` gives the file's name for a column that is called otherwise there, as in
    `{"prompt": "question"}`. A prompt or answer may be text or a conversation of one message;
    LLaVA's placeholder `<image>` is removed from prompts. A row without id gets one made of its
    content. Further rejected answers are in the columns `rejected_2`, `rejected_3`, ...

    Raises InputError when the file is missing, of another kind, not readable as a whole, or (CSV,
    Parquet) lacks a column; `rejected` only where `require_rejected`.
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
    for number, row in _READERS[suffix](path, required):
        if isinstance(row, dict):
            yield _candidate(path, number, row, names, folder)
        else:
            reason = f"should be an object with the row's columns (is {type(row).__name__})"
            reason, line = row if isinstance(row, tuple) else (reason, json.dumps(row))
            yield Quarantined(str(path), number, "", "row", reason, {"line": line})


def _candidate(
    path: Path, number: int, row: dict[str, Any], names: Mapping[str, str], folder: Path
) -> Candidate:
    values = {name: row.get(column) for name, column in names.items()}
    id = values.pop("id")
    if id is None or id == "":
        content = json.dumps(values, sort_keys=True, default=_digest)
        id = hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
    elif isinstance(id, int) and not isinstance(id, bool):
        id = str(id)
    texts = {name: _text(values[name]) for name in ("prompt", "chosen", "rejected")}
    if isinstance(texts["prompt"], str):
        texts["prompt"] = texts["prompt"].replace(IMAGE_PLACEHOLDER, "").strip()
    others = (_text(row.get(f"rejected_{n}")) for n in itertools.count(2))
    more = list(itertools.takewhile(lambda text: text is not None, others))
    images = values["images"] if values["images"] is not None else values["image"]
    if isinstance(images, str | bytes | dict):
        images = [images]
    if isinstance(images, list):
        images = [_image(image, folder) for image in images]
    meta = {"row": number}
    return Candidate(
        str(path), number, id, images, **texts, source=path.name, meta=meta, more_rejected=more
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


def _json_lines(path: Path, required: Alternatives) -> Rows:
    with _open_text(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield number, (f"is not JSON ({error})", line.rstrip("\n"))


def _json(path: Path, required: Alternatives) -> Rows:
    with _open_text(path) as file:
        try:
            rows = json.load(file)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: is not JSON ({error}); correct it there") from error
    if not isinstance(rows, list):
        raise InputError(f"{path}: must be a JSON array of rows, is {type(rows).__name__}")
    return enumerate(rows, 1)


def _csv(path: Path, required: Alternatives) -> Rows:
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


def _parquet(path: Path, required: Alternatives) -> Rows:
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


_READERS = {".jsonl": _json_lines, ".json": _json, ".csv": _csv, ".parquet": _parquet}


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
