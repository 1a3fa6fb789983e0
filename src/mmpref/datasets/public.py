"""What the public datasets have in common."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from pydantic import Field

from mmpref.datasets.conversations import Turn, prompt_of
from mmpref.datasets.dataset import Dataset
from mmpref.records.rows import RowError

DOWNLOADS = Path(__file__).parents[1] / "downloads.yaml"
FOLDER = "folder of its files; default: the pinned download"
IMAGES = "folder or zip archive of its images; default: the pinned download"


class PublicDataset(Dataset):
    """A public dataset in the files that its authors published."""

    folder: str = Field(description=FOLDER)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Its folders, which pinned downloads fill, or the user."""
        return tuple(place for _, place in self._places())

    @property
    def origins(self) -> list[dict[str, str | None]]:
        """As of every dataset; of a folder of the user's own the licence of the pinned download."""
        # Read as it is: the code of downloads decides nothing here.
        downloads = yaml.safe_load(DOWNLOADS.read_text(encoding="utf-8"))
        found = super().origins
        for origin, (field, place) in zip(found, self._places(), strict=True):
            if origin["licence"] is None:
                entry = downloads[Path(type(self).model_fields[field].default).name]
                origin |= {"source": f"{entry['source']}, in {place}", "licence": entry["licence"]}
        return found

    def _places(self) -> Iterator[tuple[str, str]]:
        for field in ("folder", "images"):
            if field in type(self).model_fields:
                yield field, getattr(self, field)


def texts_of(row: dict[str, Any], *fields: str) -> list[str]:
    """Return fields of a row that must be texts. Raises RowError for the first that is not."""
    for field in fields:
        if not isinstance(row.get(field), str):
            found = type(row[field]).__name__ if row.get(field) is not None else None
            raise RowError(field, f"should be text (is {found})" if found else "is missing")
    return [row[field] for field in fields]


def question_of(text: Any) -> Any:
    """Return a question about one image without LLaVA's placeholder; what is no text as it is.

    Raises RowError where there are more placeholders than the image.
    """
    return prompt_of([Turn("user", text)]) if isinstance(text, str) else text


def file_name(path: str) -> str:
    """Return a path without its folders; one that climbs out of them as it is, to be refused."""
    pure = PurePosixPath(path)
    return path if ".." in pure.parts else pure.name
