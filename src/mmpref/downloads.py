"""Public files at pinned revisions: downloaded or taken from a mirror, checked and recorded.

`downloads.yaml`, beside this module, names the files, their sources, SHA-256 sums and row counts.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from mmpref.archives import ArchiveError, opened_zip
from mmpref.errors import InputError
from mmpref.files import remove, replacing, sha256
from mmpref.fingerprint import fingerprint
from mmpref.progress import say, track
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
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path:
        raise ValueError(f"{path!r} is not a path inside the folder")
    return path


Relative = Annotated[str, AfterValidator(_inside)]
Sum = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class Hub(Part):
    """A file of a dataset repository, for the package huggingface_hub."""

    repository: str = Field(pattern=r"^[^/]+/[^/]+$")
    revision: Commit
    path: Relative | None = Field(None, description="default: the file's own")


class Source(Part):
    """Where a file comes from, and its sum where one is known."""

    url: str | None = Field(None, pattern=r"^https?://")
    hub: Hub | None = None
    sha256: Sum | None = None
    same: dict[Sum, str] = Field(
        default_factory=dict, description="other sums that are accepted, and why"
    )


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
        if sum(map(bool, (self.url, self.hub, self.archive, self.by_hand))) != 1:
            raise ValueError("give one of url, hub, archive and by_hand")
        if self.is_folder and (self.url or self.hub or self.sha256 or self.rows):
            raise ValueError(
                "a folder (path ends in /) comes from archive or by_hand, without sum and rows"
            )
        if self.count and not self.is_folder:
            raise ValueError("`count` is for a folder; its path ends in /")
        return self


class Archive(Source):
    """A zip file; only the members that are listed under `files` are taken out."""

    @model_validator(mode="after")
    def _whole(self) -> "Archive":
        if (self.url is None) == (self.hub is None):
            raise ValueError("give one of url and hub")
        return self


class Download(Part):
    """A folder of files that belong together."""

    source: str
    revision: str
    licence: str
    folder: str | None = Field(None, description="where it lies in a mirror; default: its name")
    files: list[File] = Field(min_length=1)
    archives: dict[Relative, Archive] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _whole(self) -> "Download":
        paths = [MANIFEST, *(file.path for file in self.files)]
        twice = {path for path in paths if paths.count(path) > 1}
        if twice:
            raise ValueError(f"files: {', '.join(sorted(twice))} stands there twice")
        used = {file.archive for file in self.files if file.archive}
        if used != set(self.archives):
            raise ValueError(
                f"archives: {', '.join(sorted(used ^ set(self.archives)))} must be both under "
                "`archives` and the archive of a file"
            )
        return self


@dataclass(frozen=True)
class _Job:
    """A download while it is made: what is in `folder` becomes the target."""

    name: str
    download: Download
    folder: Path
    places: Sequence[Path]
    recorded: Mapping[str, str]
    archives: dict[str, tuple[Path, dict[str, Any]]] = field(default_factory=dict)
    listings: dict[Any, Mapping[str, tuple[int, str]]] = field(default_factory=dict)
    """The files of repositories of the hub, as they state them."""
    trusted: list[str] = field(default_factory=list)


def load(config: str | Path = CONFIG) -> dict[str, Download]:
    """Read and check the downloads in a YAML file, by name.

    Raises:
        InputError: the file is missing or wrong; a line for every mistake names the file, the
            download and the field.
    """
    try:
        data = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
        return TypeAdapter(dict[str, Download]).validate_python(data)
    except OSError as error:
        raise InputError(f"{config}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{config}: is not YAML: {error}") from None
    except ValidationError as error:
        lines = [
            f"{config}: {'.'.join(map(str, mistake['loc']))}: {mistake['msg']}"
            + ("" if isinstance(mistake["input"], dict) else f" (given: {mistake['input']!r:.80})")
            for mistake in error.errors()
        ]
        raise InputError("\n".join(lines)) from None


def fetch(
    name: str,
    target: str | Path,
    mirror: str | Path | None = None,
    config: str | Path = CONFIG,
) -> None:
    """Write the files of a download, and `manifest.json` about them, into the folder `target`.

    `mirror` is a folder with the layout of the downloads (`MIRROR/NAME/...`; default: the
    environment variable `MMPREF_DOWNLOADS`) whose files are taken instead of the network's; members
    of archives may lie there unpacked. What was fetched when a run was interrupted is not fetched
    again: it waits in a hidden folder beside `target`. Files whose sum is not in `config` are
    trusted on first use: the sum goes to the manifest, and holds as long as that is in `target`.

    Raises:
        InputError: there is no such download; a file cannot be fetched, has another sum or number
            of rows, or has to be got by hand.
    """
    download, target = _named(name, config), Path(target)
    mirror = mirror or os.environ.get(MIRROR) or None
    if mirror and not Path(mirror).is_dir():
        raise InputError(f"{mirror}: the mirror (--mirror, {MIRROR}) is not a folder; give one")
    folders = [name, download.folder] if download.folder else [name]
    places = [Path(mirror) / folder for folder in folders] if mirror else []
    manifest = _manifest(target)
    job = _Job(
        name,
        download,
        _partial_folder(target, download),
        [*places, target.parent / "by-hand" / name],
        _sums(manifest) if manifest.get("revision") == download.revision else {},
    )
    entries = [entry for file in download.files for entry in _place(job, file)]
    _tidy(job.folder, {entry["path"] for entry in entries})
    content = {
        "download": name,
        **download.model_dump(include={"source", "revision", "licence"}),
        "files": entries,
        "archives": [entry for _, entry in job.archives.values()],
    }
    (job.folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    remove(target)
    os.replace(job.folder, target)
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
    as images, are left out.

    Raises:
        InputError: there is no such download.
    """
    folder = Path(folder)
    manifest = _sums(_manifest(folder), only_pinned=True)
    result: dict[str, dict[str, str | bool]] = {}
    for file in _named(name, config).files:
        path = folder / file.path
        if not file.is_folder and path.is_file():
            found = sha256(path)
            known = file.sha256 or manifest.get(file.path)
            result[file.path] = {"sha256": found, "pinned": found == known}
    return result


def _named(name: str, config: str | Path) -> Download:
    downloads = load(config)
    if name not in downloads:
        close = get_close_matches(name, downloads, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise InputError(f"{config}: no download {name!r}; {hint}there are: {', '.join(downloads)}")
    return downloads[name]


def _manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest in a folder; nothing if there is none, or another program's."""
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and "download" in content else {}


def _sums(manifest: Mapping[str, Any], only_pinned: bool = False) -> dict[str, str]:
    entries = [*manifest.get("files", []), *manifest.get("archives", [])]
    return {one["path"]: one["sha256"] for one in entries if one["pinned"] or not only_pinned}


def _partial_folder(target: Path, download: Download) -> Path:
    """Return the hidden folder beside `target`, with what an interrupted run left of this download.

    What another version of its entry left is thrown away.
    """
    folder = target.with_name(f".{target.name}.partial")
    mark = folder / ".entry"
    entry = fingerprint(download.model_dump())
    if folder.exists() and not (mark.is_file() and mark.read_text() == entry):
        remove(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(entry)
    return folder


def _tidy(folder: Path, keep: set[str]) -> None:
    """Remove everything but the files to keep: archives, what a downloader left behind."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(folder).as_posix() not in keep:
            path.unlink()


def _place(job: _Job, file: File) -> Iterator[dict[str, Any]]:
    """Bring a file, or the files of a folder, into the job's folder; yield manifest entries."""
    if file.is_folder:
        yield from _place_folder(job, file)
        return
    path = job.folder / file.path
    found = _in_places(job, file.path)
    pinned = False
    if found:
        origin = str(found)
        _copy(found, path)
    elif file.archive:
        archive, pinned = _archive(job, file.archive)
        member = file.member or file.path
        origin = f"{archive}, {member}"
        with _opened(job, archive) as zipped:
            _extract(job, zipped, member, path)
    else:
        origin = _get(job, file, file.path)
    entry = _entry(job, file.path, path, origin, file, pinned)
    rows = _rows(path) if file.rows else None
    if rows != file.rows:
        path.unlink()
        raise InputError(
            f"{job.name}: {file.path}: has {rows} rows, not {file.rows} ({origin}); this is "
            "another version of the file, or a part of it: get the pinned one"
        )
    if not file.sha256 and (found or not file.archive):
        _trust(job, file.path, entry["sha256"])
    yield {**entry, "rows": rows}


def _place_folder(job: _Job, file: File) -> Iterator[dict[str, Any]]:
    found = next((place for place in job.places if (place / file.path).is_dir()), None)
    sources: dict[str, Any]
    put: Callable[[Any, Path], None]
    pinned = False
    with ExitStack() as stack:
        if found:
            origin = found / file.path
            paths = sorted(path for path in origin.rglob("*") if path.is_file())
            sources = {path.relative_to(origin).as_posix(): path for path in paths}
            put = _copy
        elif file.archive:
            origin, pinned = _archive(job, file.archive)
            zipped = stack.enter_context(_opened(job, origin))
            prefix = file.member or file.path
            sources = {
                info.filename.removeprefix(prefix): info
                for info in zipped.infolist()
                if info.filename.startswith(prefix) and not info.is_dir()
            }
            put = partial(_extract, job, zipped)
        else:
            raise _by_hand(job, file)
        if not sources or (file.count and len(sources) != file.count):
            raise InputError(
                f"{job.name}: {file.path}: {len(sources)} files in {origin}, not "
                f"{file.count or 'any'}; get all of them"
            )
        for name in sources:
            try:
                _inside(name)
            except ValueError as error:
                raise InputError(f"{job.name}: {origin}: refused: {error}") from None
        for name, source in track(sources.items(), f"{job.name}: {file.path}", len(sources)):
            path = job.folder / file.path / name
            put(source, path)
            relative = file.path + name
            entry = _entry(job, relative, path, str(origin), None, pinned)
            yield {**entry, "rows": None}
    if found:
        _trust(job, f"{file.path} ({len(sources)} files)")


def _in_places(job: _Job, relative: str) -> Path | None:
    """Return where a mirror, or the folder for files got by hand, has a file."""
    paths = (place / relative for place in job.places)
    return next((path for path in paths if path.is_file()), None)


def _archive(job: _Job, name: str) -> tuple[Path, bool]:
    """Return the path of an archive, got and checked once, and whether its sum is pinned."""
    if name not in job.archives:
        source = job.download.archives[name]
        path = _in_places(job, name)
        if path:
            origin = str(path)
        else:
            path = job.folder / name
            origin = _get(job, source, name)
        entry = _entry(job, name, path, origin, source, False)
        if not source.sha256:
            _trust(job, name, entry["sha256"])
        job.archives[name] = path, entry
    path, entry = job.archives[name]
    return path, entry["pinned"]


def _get(job: _Job, source: Source, relative: str) -> str:
    """Download a file into the job's folder, unless it is there; return where it comes from."""
    path = job.folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    if source.url:
        _get_url(job, source.url, source.sha256 or job.recorded.get(relative), relative)
        return source.url
    if source.hub:
        if not path.is_file():
            _get_hub(job, source.hub, relative)
        return f"{source.hub.repository} {source.hub.revision}"
    raise _by_hand(job, source)


def _get_url(job: _Job, url: str, known: str | None, relative: str) -> None:
    # Imported here: the standalone scorer checks files without ever downloading one.
    import pooch
    from requests import RequestException

    path = job.folder / relative
    if not path.is_file():
        say(f"{job.name}: fetching {url}")
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(
            url,
            known_hash=known and f"sha256:{known}",
            fname=path.name,
            path=path.parent,
            downloader=pooch.HTTPDownloader(chunk_size=1 << 20),
        )
    except RequestException as error:
        raise _unreachable(job, url, relative, error) from None
    except ValueError as error:
        raise InputError(
            f"{job.name}: {relative}: {error} It comes from {url}. {_if_wrong(job, relative)}"
        ) from None


def _get_hub(job: _Job, hub: Hub, relative: str) -> None:
    from mmpref.hub import Repository

    name = hub.path or relative
    repository = Repository(hub.repository, hub.revision, "dataset")
    folder = job.folder / ".hub"
    folder.mkdir(exist_ok=True)
    try:
        files = job.listings.get(repository) or repository.files()
        job.listings[repository] = files
        if name not in files:
            raise InputError(f"{repository}: has no file {name}; correct the path")
        repository.get({name: files[name]}, folder)
    except InputError as error:
        raise InputError(
            f"{job.name}: {relative}: {error}; without a network, put the file at "
            f"MIRROR/{job.name}/{relative} in a folder MIRROR of yours, and set {MIRROR} or "
            "--mirror to that folder"
        ) from None
    os.replace(folder / name, job.folder / relative)


def _unreachable(job: _Job, what: str, relative: str, error: Exception) -> InputError:
    return InputError(
        f"{job.name}: {relative}: cannot fetch {what} ({str(error).strip() or type(error)}); what "
        "was fetched is kept, so start again when the network is there; or without it, put the "
        f"file at MIRROR/{job.name}/{relative} in a folder MIRROR of yours, and set {MIRROR} or "
        "--mirror to that folder"
    )


def _by_hand(job: _Job, file: Source) -> InputError:
    assert isinstance(file, File)
    return InputError(
        f"{job.name}: {file.path}: only a person can get this: get {file.by_hand}, put it at "
        f"{job.places[0] / file.path}"
        + (f" ({file.count} files)" if file.count else "")
        + " and start again"
    )


def _if_wrong(job: _Job, relative: str) -> str:
    if relative in job.recorded:
        return f"The sum is the earlier download's: if the new file is meant, delete its {MANIFEST}"
    return (
        "Get it again; if the sum stays the same, this not the pinned file: get that elsewhere "
        f"and put it at MIRROR/{job.name}/{relative} in a folder that {MIRROR} or --mirror names"
    )


def _entry(
    job: _Job, relative: str, path: Path, origin: str, source: Source | None, pinned: bool
) -> dict[str, Any]:
    """Check a file's sum; return its part of the manifest.

    `pinned` says that the file comes out of an archive with the sum in the configuration.
    """
    found = sha256(path)
    pin = source.sha256 if source else None
    known = pin or job.recorded.get(relative)
    if known and found != known:
        reason = source.same.get(found) if source else None
        if reason is None:
            if path.is_relative_to(job.folder):
                path.unlink()
            raise InputError(
                f"{job.name}: {relative}: its SHA-256 is {found}, not {known} ({origin}). "
                f"{_if_wrong(job, relative)}"
            )
        say(f"{job.name}: {relative}: not the pinned file, but accepted: {reason}")
    return {
        "path": relative,
        "sha256": found,
        "bytes": path.stat().st_size,
        "pinned": found == pin or (pinned and pin is None),
    }


def _trust(job: _Job, relative: str, found: str = "") -> None:
    if relative not in job.recorded:
        job.trusted.append(f"{relative} {found}".strip())


def _copy(source: Path, path: Path) -> None:
    with replacing(path) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def _opened(job: _Job, path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; one that is of no use is removed, to be fetched again."""
    try:
        with opened_zip(path) as zipped:
            yield zipped
    except ArchiveError as error:
        if path.is_relative_to(job.folder):
            path.unlink()
        raise InputError(f"{job.name}: {error}") from None


def _extract(job: _Job, zipped: zipfile.ZipFile, member: str | zipfile.ZipInfo, path: Path) -> None:
    try:
        source = zipped.open(member)
    except KeyError:
        raise InputError(
            f"{job.name}: {zipped.filename}: has no {member}; this is another archive: get the "
            "pinned one"
        ) from None
    with source, replacing(path) as temporary, open(temporary, "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)


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
