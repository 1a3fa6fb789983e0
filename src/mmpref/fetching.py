"""Public files at pinned revisions: downloaded or taken from a mirror, checked and recorded."""

import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mmpref.archives import ArchiveError, opened_zip
from mmpref.downloads import CONFIG, Download, Entry, File, Source, entries_of, inside_folder, named
from mmpref.errors import InputError
from mmpref.files import MANIFEST, remove, sha256
from mmpref.fingerprint import fingerprint
from mmpref.hub import Repository
from mmpref.progress import say, track

MIRROR = "MMPREF_DOWNLOADS"
"""Environment variable: the mirror's folder."""

SHOWN = 10

Readable = Path | zipfile.Path


def download(name: str, /, output: Path, mirror: Path | None = None) -> None:
    """Download a benchmark's files, or other public ones, at the pinned revision.

    mmpref download chair --output data/chair

    Args:
        name: a name in downloads.yaml: a benchmark's, images of one, nltk_data
        output: folder for the files and manifest.json
        mirror: folder to take files from; default: the environment variable MMPREF_DOWNLOADS
    """
    fetch(name, output, mirror)


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
    download, target = named(name, config), Path(target)
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
        {entry["path"]: entry["sha256"] for entry in entries_of(target, download)},
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
                inside_folder(file.path + one.removeprefix(member)): zipfile.Path(zipped, one)
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
