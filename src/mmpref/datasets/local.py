"""Preference pairs in a file of one's own: JSON lines, a JSON array, CSV or Parquet."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from mmpref.datasets.conversations import Turn, prompt_of
from mmpref.datasets.dataset import Dataset
from mmpref.datasets.files import Found, content_id, demand_file, image_of, read_rows
from mmpref.errors import InputError
from mmpref.records.rows import Candidate

if TYPE_CHECKING:
    from mmpref.records.folders import ImageFolder

COLUMNS = ("id", "image", "images", "prompt", "chosen", "rejected")


class LocalDataset(Dataset):
    """Pairs of one's own: a JSON Lines, CSV or Parquet file with image paths."""

    source: Literal["local"]
    file: str = Field(description="path of the file")
    images: str | None = Field(
        None,
        description="folder or zip archive of the images, which no path in the file leaves; "
        "default: the file's folder",
    )
    columns: dict[str, str] = Field(
        default_factory=dict, description="own column names, for example {prompt: question}"
    )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The file; images are read by their paths, and not watched."""
        return (self.file,)

    def rows(self, seed: int, require_rejected: bool) -> Found:
        """Yield the rows of the file; see `read_local`."""
        return read_local(self.file, self.images, self.columns, require_rejected)


def read_local(
    path: str | Path,
    image_folder: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    require_rejected: bool = True,
) -> Found:
    """Yield the rows of a user's file (see `read_rows`) for `write_valid_pairs`.

    Image paths are relative to `image_folder`, by default the file's own. Absolute ones must lead
    there too; `/` as the folder allows all.

    `columns` gives the file's name for a column that is called otherwise there, as in
    `{"prompt": "question"}`. A prompt or answer may be text or a conversation of one message. A
    prompt has as many of LLaVA's placeholders `<image>` as the row has images, or none; they are
    removed. A row without id gets one made of its content. Further rejected answers are in the
    columns `rejected_2`, `rejected_3`, ...

    Raises InputError as `read_rows` does; `rejected` is required only where `require_rejected`.
    """
    from mmpref.records.folders import ImageFolder

    path = Path(path)
    names = {name: name for name in COLUMNS} | dict(columns or {})
    if unknown := sorted(set(names) - set(COLUMNS)):
        raise InputError(
            f"{path}: columns names {', '.join(unknown)}, which a preference pair does not have; "
            f"choose among {', '.join(COLUMNS)}"
        )
    demand_file(path)
    folder = ImageFolder(path.parent if image_folder is None else image_folder)
    required = [(names["image"], names["images"]), (names["prompt"],), (names["chosen"],)]
    if require_rejected:
        required.append((names["rejected"],))

    def candidate(number: int, row: dict[str, Any]) -> Iterator[Candidate]:
        yield _candidate(path, number, row, names, folder)

    return read_rows(path, candidate, required)


def _candidate(
    path: Path, number: int, row: dict[str, Any], names: Mapping[str, str], folder: "ImageFolder"
) -> Candidate:
    values = {name: row.get(column) for name, column in names.items()}
    id = values.pop("id")
    if id is None or id == "":
        id = content_id(values)
    elif isinstance(id, int) and not isinstance(id, bool):
        id = str(id)
    texts = {name: _text(values[name]) for name in ("prompt", "chosen", "rejected")}
    others = (_text(row.get(f"rejected_{n}")) for n in itertools.count(2))
    more = list(itertools.takewhile(lambda text: text is not None, others))
    images = values["images"] if values["images"] is not None else values["image"]
    if isinstance(images, str | bytes | dict):
        images = [images]
    if isinstance(images, list):
        images = [image_of(image, folder) for image in images]
        if isinstance(texts["prompt"], str):
            texts["prompt"] = prompt_of([Turn("user", texts["prompt"])], len(images))
    meta = {"row": number}
    return Candidate(
        str(path), number, id, images, **texts, source=path.name, meta=meta, more_rejected=more
    )


def _text(value: Any) -> Any:
    """Return the text of a conversation of one message (TRL's form), anything else as it is."""
    match value:
        case [{"content": str(text)}]:
            return text
        case [{"content": [*parts]}] if all(isinstance(part, dict) for part in parts):
            return "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    return value
