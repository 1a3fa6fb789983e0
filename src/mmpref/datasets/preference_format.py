"""Pairs in the preference formats of other trainers: TRL, LLaMA-Factory and ms-swift."""

from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from mmpref.datasets.conversations import Turn, last_answer, prompt_of, turn_of, turns_of
from mmpref.datasets.dataset import Dataset
from mmpref.datasets.files import READERS, Found, Make, content_id, image_of, read_rows
from mmpref.errors import InputError
from mmpref.files import MANIFEST
from mmpref.records.rows import Candidate, RowError

if TYPE_CHECKING:
    from mmpref.records.folders import ImageFolder

LISTING = "dataset_info.json"
"""LLaMA-Factory's list of the datasets in a folder."""

Format = Literal["trl", "llama-factory", "ms-swift"]


class FormattedDataset(Dataset):
    """Files of pairs in a format of another trainer."""

    format: Format = Field(
        description="`trl`: prompt, chosen, rejected, images; `llama-factory`: sharegpt with "
        "ranking; `ms-swift`: messages, rejected_response, images"
    )

    def read(self, folder: str | Path, patterns: list[str], images: str | Path) -> Found:
        """Yield the rows of the files of a folder that match one of the patterns, by name.

        Raises InputError when there is none, or one cannot be read.
        """
        from mmpref.records.folders import ImageFolder

        paths = matching(folder, patterns)
        if not paths:
            raise InputError(
                f"{folder}: has no file that matches {', '.join(patterns)} and ends in "
                f"{', '.join(READERS)}; correct the folder or `files`"
            )
        place = ImageFolder(images)
        for path in paths:
            yield from read_rows(path, self._made(path, place))

    def _made(self, path: Path, images: "ImageFolder") -> Make:
        def made(number: int, row: dict[str, Any]) -> Iterator[Candidate]:
            yield _candidate(self.format, path, number, row, images)

        return made


class PreferenceFormatDataset(FormattedDataset):
    """Pairs of one's own in the preference format of TRL, LLaMA-Factory or ms-swift."""

    source: Literal["preference_format"]
    folder: str = Field(description="folder of the files")
    files: list[str] = Field(["*"], min_length=1, description="their names, or patterns of them")
    images: str | None = Field(
        None, description="folder or zip archive of the images; default: the files' folder"
    )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The files; images are read by their paths, and not watched."""
        return tuple(map(str, matching(self.folder, self.files))) or (self.folder,)

    def rows(self, seed: int, require_rejected: bool) -> Found:
        """Yield the rows of the files."""
        return self.read(self.folder, self.files, self.images or self.folder)


def matching(folder: str | Path, patterns: list[str]) -> list[Path]:
    """Return the files of rows in a folder whose paths match one of the patterns, in order."""
    folder = Path(folder)
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in READERS
        and path.name not in (MANIFEST, LISTING)
        and any(fnmatch(path.relative_to(folder).as_posix(), pattern) for pattern in patterns)
    )


def _candidate(
    format: Format, path: Path, number: int, row: dict[str, Any], folder: "ImageFolder"
) -> Candidate:
    turns, chosen, rejected = FORMATS[format](row)
    raw = row.get("images") if row.get("images") is not None else row.get("image")
    raw = [raw] if isinstance(raw, str | bytes | dict) else raw
    if not raw or not isinstance(raw, list):
        raise RowError("images", "is missing" if raw is None else "is not a list of images")
    if row.get("videos") or row.get("audios") or row.get("rejected_images"):
        raise RowError("images", "is not all: the row also has videos, audios or rejected_images")
    images = [image_of(image, folder) for image in raw]
    id = row.get("id")
    if id is None or id == "":
        id = content_id(turns, chosen, rejected, raw)
    return Candidate(
        file=str(path),
        row=number,
        id=str(id) if isinstance(id, int) else id,
        images=images,
        prompt=prompt_of(turns, len(images)),
        chosen=chosen,
        rejected=rejected,
        source=path.name,
        meta={"row": number},
    )


Parts = tuple[list[Turn], Any, Any]
"""The turns up to the answers, the chosen answer and the rejected one."""


def _trl(row: dict[str, Any]) -> Parts:
    """Read TRL's format: plain texts, or conversations whose prompt may be in both answers."""
    prompt, chosen, rejected = row.get("prompt"), row.get("chosen"), row.get("rejected")
    if isinstance(prompt, str):
        return [Turn("user", prompt)], chosen, rejected
    before = [] if prompt is None else turns_of("prompt", prompt)
    beginning, chosen = last_answer("chosen", turns_of("chosen", chosen))
    if rejected is not None:
        other, rejected = last_answer("rejected", turns_of("rejected", rejected))
        if other != beginning:
            raise RowError("rejected", "does not begin as chosen does")
    return before + beginning, chosen, rejected


def _llama_factory(row: dict[str, Any]) -> Parts:
    """Read LLaMA-Factory's sharegpt format with `ranking: true`."""
    turns = turns_of("conversations", row.get("conversations"))
    if row.get("system"):
        turns = [Turn("system", str(row["system"])), *turns]
    answers = [
        None if row.get(field) is None else turn_of(field, row[field]).text
        for field in ("chosen", "rejected")
    ]
    return turns, answers[0], answers[1]


def _ms_swift(row: dict[str, Any]) -> Parts:
    """Read ms-swift's format: the chosen answer ends `messages`."""
    turns, chosen = last_answer("messages", turns_of("messages", row.get("messages")))
    return turns, chosen, row.get("rejected_response")


FORMATS: dict[str, Callable[[dict[str, Any]], Parts]] = {
    "trl": _trl,
    "llama-factory": _llama_factory,
    "ms-swift": _ms_swift,
}
