"""Public files at pinned revisions: downloaded or taken from a mirror, checked and recorded.

`downloads.yaml`, beside this module, names the files, their sources, SHA-256 sums and row counts.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from mmpref.archives import ArchiveError, opened_zip
from mmpref.errors import InputError
from mmpref.files import remove, sha256
from mmpref.fingerprint import fingerprint
from mmpref.hub import Repository
from mmpref.progress import say, track
from mmpref.study.explanation import did_you_mean, read_yaml, wrong
from mmpref.study.parts import Count, Part

# Not by its name in a string: the digest of every score would change with every download added.
CONFIG = Path(__file__).with_suffix(".yaml")
MIRROR = "MMPREF_DOWNLOADS"
"""Environment variable: the mirror's folder."""
MANIFEST = "manifest.json"

SHOWN = 10


def _inside(path: str) -> str:
    """Check that a path, taken from a folder, stays in it."""
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or "//" in path:
        raise ValueError(f"{path!r} is not a path inside the folder")
    return path


Relative = Annotated[str, AfterValidator(_inside)]
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
Readable = Path | zipfile.Path


@dataclass(frozen=True)
class _Job:
    """A download under way: out of `places` and `fetched` into the folder `new`."""

    name: str
    download: Download
    places: Sequence[Path]
    fetched: Path
    new: Path
    recorded: Mapping[str, str]
    archives: dict[str, tuple[Path, Entry]] = field(default_factory=dict)
    trusted: list[str] = field(default_factory=list)


def load(config: str | Path = CONFIG) -> dict[str, Download]:
    """Read and check the downloads in a YAML file, by name.

    Raises InputError when the file is missing or wrong; a line for every mistake names the file,
    the download and the field.
    """
    try:
        return TypeAdapter(dict[str, Download]).validate_python(read_yaml(config))
    except ValidationError as error:
        raise wrong(config, error) from None


def fetch(
    name: str, target: str | Path, mirror: str | Path | None = None, config: str | Path = CONFIG
) -> None:
    """Write the files of a download, and `manifest.json` about them, into the folder `target`.

    `mirror` is a folder with the layout of the downloads (`MIRROR/NAME/...`; default: the
    environment variable `MMPREF_DOWNLOADS`) whose files are taken instead of the network's; members
    of archives may lie there unpacked. What was fetched when a run was interrupted is not fetched
    again: it waits in a hidden folder beside `target`. Files whose sum is not in `config` are
    trusted on first use: the sum goes to the manifest, and holds as long as that is in `target`.

    Raises InputError when there is no such download, or a file cannot be fetched, has another sum
    or number of rows, or has to be got by hand.
    """
    download, target = _named(name, config), Path(target)
    mirror = mirror or os.environ.get(MIRROR)
    if mirror and not Path(mirror).is_dir():
        raise InputError(f"{mirror}: the mirror (--mirror, {MIRROR}) is not a folder; give one")
    places = [Path(mirror) / folder for folder in (name, download.folder) if mirror and folder]
    folder = target.with_name(f".{target.name}.partial")
    mark, version = folder / "entry", fingerprint(download.model_dump())
    if not mark.is_file() or mark.read_text() != version:
        remove(folder)
        folder.mkdir(parents=True)
        mark.write_text(version)
    job = _Job(
        name,
        download,
        [*places, target.parent / "by-hand" / name],
        folder / "fetched",
        folder / "new",
        {entry["path"]: entry["sha256"] for entry in _manifest(target, download)},
    )
    remove(job.new)
    entries = [entry for file in download.files for entry in _place(job, file)]
    content = {
        "download": name,
        **download.model_dump(include={"source", "revision", "licence"}),
        "files": entries,
        "archives": [entry for _, entry in job.archives.values()],
    }
    (job.new / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    remove(target)
    os.replace(job.new, target)
    remove(folder)
    if job.trusted:
        more = f" and {len(job.trusted) - SHOWN} more" if len(job.trusted) > SHOWN else ""
        say(
            f"{name}: sums not known in advance, trusted on first use and written to "
            f"{target / MANIFEST}: {', '.join(job.trusted[:SHOWN])}{more}"
        )


def verify(
    folder: str | Path, name: str, config: str | Path = CONFIG
) -> dict[str, dict[str, str | bool]]:
    """Return, for the files of a download that are in `folder`, the sum and whether it is pinned.

    `{path: {"sha256": ..., "pinned": ...}}`. Pinned is a file with the sum in `config`, or with the
    sum that the folder's manifest has from an archive that is pinned there. Folders of files, such
    as images, are left out. Raises InputError when there is no such download.
    """
    download = _named(name, config)
    entries = _manifest(Path(folder), download)
    known = {entry["path"]: entry["sha256"] for entry in entries if entry["pinned"]}
    known |= {file.path: file.sha256 for file in download.files if file.sha256}
    paths = {file.path: Path(folder, file.path) for file in download.files if not file.is_folder}
    found = {name: sha256(path) for name, path in paths.items() if path.is_file()}
    return {name: {"sha256": one, "pinned": one == known.get(name)} for name, one in found.items()}


def _named(name: str, config: str | Path) -> Download:
    downloads = load(config)
    if name not in downloads:
        raise InputError(
            f"{config}: no download {name!r}; {did_you_mean(name, downloads)}there are: "
            f"{', '.join(downloads)}"
        )
    return downloads[name]


def _manifest(folder: Path, download: Download) -> list[Entry]:
    """Return the entries of a folder's manifest; none of another revision or program."""
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
        same = content["revision"] == download.revision
        return [*content["files"], *content["archives"]] if same else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _place(job: _Job, file: File) -> Iterator[Entry]:
    """Bring a file, or the files of a folder, into place; yield their part of the manifest."""
    found = _found(job, file.path)
    if file.by_hand and not found:
        raise InputError(
            f"{job.name}: {file.path}: must be downloaded manually: get {file.by_hand}, put it at "
            f"{job.places[0] / file.path}{f' ({file.count} files)' if file.count else ''} and "
            "start again"
        )
    if file.archive and not found:
        yield from _unpack(job, file, file.archive)
        return
    root, origin = _get(job, file, file.path)
    paths = [root / file.path, *sorted((root / file.path).rglob("*"))]
    files = {path.relative_to(root).as_posix(): path for path in paths if path.is_file()}
    yield from _put(job, file, files, origin)


def _unpack(job: _Job, file: File, name: str) -> Iterator[Entry]:
    """Do as `_place` for what comes out of an archive, which is got and checked once."""
    if name not in job.archives:
        source = job.download.archives[name]
        root, origin = _get(job, source, name)
        job.archives[name] = root / name, _entry(job, name, root / name, origin, source)
    path, archive = job.archives[name]
    member = file.member or file.path
    try:
        with opened_zip(path) as zipped:
            names = [one for one in zipped.namelist() if one == member]
            if file.is_folder:
                inside = [one for one in zipped.namelist() if one.startswith(member)]
                names = [one for one in inside if not one.endswith("/")]
            elif not names:
                problem = f"{path}: has no {member}; this is another archive: get the pinned one"
                raise InputError(f"{job.name}: {problem}")
            files = {
                _inside(file.path + one.removeprefix(member)): zipfile.Path(zipped, one)
                for one in names
            }
            yield from _put(job, file, files, f"{member} of {path}", archive)
    except ValueError as error:
        raise InputError(f"{job.name}: {path}: refused: {error}") from None
    except ArchiveError as error:
        raise _refused(job, name, str(error)) from None


def _found(job: _Job, relative: str) -> Path | None:
    """Return the folder, of a mirror or for files got by hand, that has a file."""
    return next((place for place in job.places if (place / relative).exists()), None)


def _get(job: _Job, source: Source, relative: str) -> tuple[Path, str]:
    """Return the folder with a file, which is downloaded if need be, and where that comes from."""
    if found := _found(job, relative):
        return found, str(found / relative)
    # Imported here: the standalone scorer checks files without ever downloading one.
    import pooch

    assert source.url
    path = job.fetched / relative
    if not path.is_file():
        say(f"{job.name}: fetching {source.url}")
    pooch.get_logger().setLevel("WARNING")
    hub = source.url.startswith("hf:")
    downloader = _from_hub if hub else pooch.HTTPDownloader(chunk_size=1 << 20)
    try:
        pooch.retrieve(source.url, None, path.name, path.parent, downloader=downloader)
    except (OSError, ValueError, InputError) as error:
        raise InputError(
            f"{job.name}: {relative}: cannot fetch {source.url} "
            f"({str(error).strip() or type(error)}); what was fetched is kept, so start again when "
            f"the network is there; or without it, put the file at MIRROR/{job.name}/{relative} in "
            f"a folder MIRROR of yours, and set {MIRROR} or --mirror to that folder"
        ) from None
    return job.fetched, source.url


def _from_hub(url: str, output: str, _: Any) -> None:
    """Download from the dataset hub, for pooch."""
    from huggingface_hub import parse_hf_uri

    uri, folder = parse_hf_uri(url), Path(output).with_name(".hub")
    files = _listing(repository := Repository(uri.id, str(uri.revision), "dataset"))
    if uri.path_in_repo not in files:
        raise InputError(f"{repository}: has no file {uri.path_in_repo}; correct the path")
    folder.mkdir(exist_ok=True)
    repository.get({uri.path_in_repo: files[uri.path_in_repo]}, folder)
    os.replace(folder / uri.path_in_repo, output)


@cache
def _listing(repository: Repository) -> dict[str, tuple[int, str]]:
    return repository.files()


def _put(
    job: _Job, file: File, files: Mapping[str, Readable], origin: str, archive: Entry | None = None
) -> Iterator[Entry]:
    """Copy files, by their paths, into the new folder; check them."""
    if not files or (file.count and len(files) != file.count):
        problem = f"{len(files)} files in {origin}, not {file.count or 'any'}; get all of them"
        raise InputError(f"{job.name}: {file.path}: {problem}")
    shown = track(files.items(), f"{job.name}: {file.path}", len(files))
    for relative, source in shown if file.is_folder else files.items():
        path = job.new / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as content, path.open("wb") as copy:
            shutil.copyfileobj(content, copy, 1 << 20)
        entry = _entry(job, relative, path, origin, file, archive)
        rows = _rows(path) if file.rows else None
        if rows != file.rows:
            problem = f"has {rows} rows, not {file.rows} ({origin}); this is another version of the"
            raise _refused(job, relative, f"{problem} file, or a part of it: get the pinned one")
        yield {**entry, "rows": rows}


def _entry(
    job: _Job, relative: str, path: Path, origin: str, source: Source, archive: Entry | None = None
) -> Entry:
    """Check the sum of a file (maybe out of an archive); return its part of the manifest."""
    found = sha256(path)
    known = source.sha256 or job.recorded.get(relative)
    if found in source.same:
        say(f"{job.name}: {relative}: not the pinned file, but accepted: {source.same[found]}")
    elif known and found != known:
        hint = (
            f"The sum is the earlier download's: if the new file is meant, delete its {MANIFEST}"
            if not source.sha256
            else "Get it again; if the sum stays the same, this is not the pinned file: get that "
            f"elsewhere and put it at MIRROR/{job.name}/{relative} in a folder that {MIRROR} or "
            "--mirror names"
        )
        problem = f"its SHA-256 is {found}, not {known} ({origin}). {hint}"
        raise _refused(job, relative, problem)
    if not (known or archive):
        job.trusted.append(f"{relative} {found}")
    pinned = found == source.sha256 if source.sha256 else bool(archive and archive["pinned"])
    return {"path": relative, "sha256": found, "bytes": path.stat().st_size, "pinned": pinned}


def _refused(job: _Job, relative: str, problem: str) -> InputError:
    """Return an error about a file, which is not kept if it was fetched."""
    (job.fetched / relative).unlink(missing_ok=True)
    return InputError(f"{job.name}: {relative}: {problem}")


def _rows(path: Path) -> int:
    """Return the rows of a table: of JSON the elements, of other text the lines that hold anything.

    A JSON object with a single list in it, such as VQA's `questions`, has that list's.
    """
    if path.suffix == ".json":
        try:
            data = json.loads(path.read_bytes())
        except ValueError:
            pass  # POPE's files under this name hold JSON lines.
        else:
            values = data.values() if isinstance(data, dict) else ()
            lists = [value for value in values if isinstance(value, list)]
            return len(lists[0] if len(lists) == 1 else data)
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())
