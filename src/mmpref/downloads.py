"""Public files at pinned revisions: what they are, and whether a folder has them.

`downloads.yaml`, beside this module, names the files, their sources, SHA-256 sums and row counts;
`mmpref.fetching` brings them.
"""

import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from mmpref.errors import InputError
from mmpref.files import MANIFEST, sha256
from mmpref.study.explanation import did_you_mean, read_yaml, wrong
from mmpref.study.parts import Count, Part

# Not by its name in a string: the digest of every score would change with every download added.
CONFIG = Path(__file__).with_suffix(".yaml")


def inside_folder(path: str) -> str:
    """Check that a path, taken from a folder, stays in it."""
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or "//" in path:
        raise ValueError(f"{path!r} is not a path inside the folder")
    return path


Relative = Annotated[str, AfterValidator(inside_folder)]
Sum = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Url = Annotated[str, Field(pattern=r"^(https?://|hf://datasets/[^/]+/[^/@]+@[0-9a-f]{40}/.)")]


class Source(Part):
    """Where a file comes from, and its sum where one is known."""

    url: Url | None = None
    sha256: Sum | None = None
    same: dict[Sum, str] = Field({}, description="other sums that are accepted, and why")


class Archive(Source):
    """A zip file; only the members that are listed under `files` are taken out."""

    url: Url


class File(Source):
    """A file of a download, or, with a `path` that ends in /, a folder of files."""

    path: Relative
    archive: str | None = Field(None, description="a name under `archives`")
    member: str | None = Field(None, description="its name in the archive; default: `path`")
    by_hand: str | None = Field(None, description="where a person gets it, in words")
    rows: Count | None = None
    count: Count | None = Field(None, description="files in the folder")

    @property
    def is_folder(self) -> bool:
        """Whether this is a folder of files."""
        return self.path.endswith("/")

    @model_validator(mode="after")
    def _whole(self) -> "File":
        if sum(map(bool, (self.url, self.archive, self.by_hand))) != 1:
            raise ValueError("give one of url, archive and by_hand")
        if self.is_folder and (self.url or self.sha256 or self.rows):
            raise ValueError(
                "a folder (path ends in /) comes from archive or by_hand, without sum and rows"
            )
        if self.count and not self.is_folder:
            raise ValueError("`count` is for a folder; its path ends in /")
        return self


class Download(Part):
    """A folder of files that belong together."""

    source: str
    revision: str
    licence: str
    folder: str | None = Field(None, description="where it lies in a mirror; default: its name")
    files: list[File] = Field(min_length=1)
    archives: dict[Relative, Archive] = Field({})

    @model_validator(mode="after")
    def _whole(self) -> "Download":
        paths = [MANIFEST, *(file.path for file in self.files)]
        if twice := {path for path in paths if paths.count(path) > 1}:
            raise ValueError(f"files: {', '.join(sorted(twice))} stands there twice")
        if odd := {file.archive for file in self.files if file.archive} ^ set(self.archives):
            raise ValueError(
                f"archives: {', '.join(sorted(odd))} must be both under `archives` and the "
                "archive of a file"
            )
        return self


Entry = dict[str, Any]
"""What the manifest says of a file or an archive."""


def load(config: str | Path = CONFIG) -> dict[str, Download]:
    """Read and check the downloads in a YAML file, by name.

    Raises InputError when the file is missing or wrong; a line for every mistake names the file,
    the download and the field.
    """
    try:
        return TypeAdapter(dict[str, Download]).validate_python(read_yaml(config))
    except ValidationError as error:
        raise wrong(config, error) from None


def verify(
    folder: str | Path, name: str, config: str | Path = CONFIG
) -> dict[str, dict[str, str | bool]]:
    """Return, for the files of a download that are in `folder`, the sum and whether it is pinned.

    `{path: {"sha256": ..., "pinned": ...}}`. Pinned is a file with the sum in `config`, or with the
    sum that the folder's manifest has from an archive that is pinned there. Folders of files, such
    as images, are left out. Raises InputError when there is no such download.
    """
    download = named(name, config)
    entries = entries_of(Path(folder), download)
    known = {entry["path"]: entry["sha256"] for entry in entries if entry["pinned"]}
    known |= {file.path: file.sha256 for file in download.files if file.sha256}
    paths = {file.path: Path(folder, file.path) for file in download.files if not file.is_folder}
    found = {name: sha256(path) for name, path in paths.items() if path.is_file()}
    return {name: {"sha256": one, "pinned": one == known.get(name)} for name, one in found.items()}


def named(name: str, config: str | Path) -> Download:
    """Return a download by its name. Raises InputError when there is none."""
    downloads = load(config)
    if name not in downloads:
        raise InputError(
            f"{config}: no download {name!r}; {did_you_mean(name, downloads)}there are: "
            f"{', '.join(downloads)}"
        )
    return downloads[name]


def entries_of(folder: Path, download: Download) -> list[Entry]:
    """Return the entries of a folder's manifest; none of another revision or program."""
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
        same = content["revision"] == download.revision
        return [*content["files"], *content["archives"]] if same else []
    except (OSError, ValueError, KeyError, TypeError):
        return []
