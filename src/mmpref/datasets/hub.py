"""Pairs straight from a dataset repository of the hub."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from mmpref.datasets.files import Found
from mmpref.datasets.preference_format import FormattedDataset
from mmpref.fingerprint import fingerprint


class HubDataset(FormattedDataset):
    """Pairs of a dataset of the hub at a pinned revision, in a trainer's preference format."""

    source: Literal["hub"]
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="OWNER/NAME")
    revision: str = Field(pattern=r"^[0-9a-f]{40}$", description="commit of the repository")
    files: list[str] = Field(
        min_length=1, description="the files, or patterns of them, as `data/train-*`"
    )
    images: str | None = Field(
        None, description="folder or zip archive of the images among the files; default: their root"
    )

    @property
    def folder(self) -> str:
        """Where they are downloaded to: datasets that name the same files share the download."""
        selection = fingerprint({"files": sorted(self.files)})[:8]
        return f"resources/datasets/{self.repository}/{self.revision}/{selection}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The folder, which the rule hub_dataset makes."""
        return (self.folder,)

    def rows(self, seed: int, require_rejected: bool) -> Found:
        """Yield the rows of the files."""
        return self.read(self.folder, self.files, Path(self.folder, self.images or ""))
