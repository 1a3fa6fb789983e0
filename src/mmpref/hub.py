"""Files of the hub at a pinned revision: from its cache or the network, checked by its own sums."""

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from mmpref.errors import InputError
from mmpref.files import MANIFEST, remove
from mmpref.progress import SECONDS_BETWEEN_LINES, say
from mmpref.study.models import families

PARTS = ".parts"
"""Where files lie until they are whole."""
SHA256_LENGTH = 64

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
MODULES = "modules.json"
"""What a sentence encoder has; its parts lie in folders."""
BESIDE_WEIGHTS = (
    "*.json",
    "*.jinja",
    "*.model",
    "merges.txt",
    "vocab.txt",
    "README.md",
    "LICENSE*",
)
DATA = (
    *(".csv", ".json", ".jsonl", ".parquet", ".zip"),
    *(".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"),
)
"""What is taken of a dataset: no loading scripts, no pickles."""
SHOWN = 10


@dataclass(frozen=True)
class Repository:
    """A repository of the hub at a commit.

    The address is the environment's HF_ENDPOINT, the token HF_TOKEN or that of a login.
    """

    name: str
    revision: str
    kind: Literal["model", "dataset"] = "model"

    def __str__(self) -> str:
        return f"{self.kind} {self.name} at revision {self.revision[:12]}"

    def files(self) -> dict[str, tuple[int, str]]:
        """Return size in bytes and sum of every file: SHA-256 of large ones, Git's of the others.

        Without a network they are those of the hub's cache, whose files are named by their sums.

        Raises:
            InputError: the repository or its revision does not exist or cannot be read.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        with _explained(self, bool(cached := self._cached())):
            tree = HfApi(endpoint=_endpoint()).list_repo_tree(
                self.name, recursive=True, revision=self.revision, repo_type=self.kind
            )
            files = {
                file.path: (file.size, file.lfs.sha256 if file.lfs else file.blob_id)
                for file in tree
                if isinstance(file, RepoFile)
            }
            for path in files:
                if ".." in Path(path).parts or Path(path).is_absolute():
                    raise InputError(
                        f"{self}: names a file outside of itself ({path}); do not use it"
                    )
            return files
        say(f"{self}: the hub cannot be reached; what lies in its cache is used")
        return cached

    def get(self, files: Mapping[str, tuple[int, str]], folder: Path) -> None:
        """Bring files into a folder; those that are there already are left alone.

        What the hub's cache has is linked, not copied. A download that was interrupted goes on
        where it stopped.

        Raises:
            InputError: a file cannot be fetched or has another sum, or the disk is too small.
        """
        from huggingface_hub import try_to_load_from_cache

        missing = {path: file for path, file in files.items() if not (folder / path).is_file()}
        for path in list(missing):
            found = try_to_load_from_cache(
                self.name, path, revision=self.revision, repo_type=self.kind
            )
            if isinstance(found, str):
                _link(Path(found).resolve(), folder / path)
                self._check(path, missing.pop(path)[1], folder, f"the hub's cache ({found})")
        self._check_space(folder, sum(size for size, _ in missing.values()))
        for number, (path, (size, expected)) in enumerate(missing.items(), 1):
            say(f"{self}: fetching {path}, {size / 1e6:,.1f} MB, file {number} of {len(missing)}")
            with _explained(self):
                self._download(path, size, folder)
            self._check(path, expected, folder, "the network")

    def _download(self, path: str, size: int, folder: Path) -> None:
        # Not hf_hub_download: since version 2 it begins a file anew when it was killed.
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        part = folder / PARTS / path
        part.parent.mkdir(parents=True, exist_ok=True)
        url = hf_hub_url(
            self.name, path, revision=self.revision, repo_type=self.kind, endpoint=_endpoint()
        )
        with part.open("ab") as file:
            http_get(
                url,
                file,
                resume_size=file.tell(),
                headers=build_hf_headers(),
                expected_size=size,
                displayed_filename=path,
                tqdm_class=_progress_lines(),
            )
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, folder / path)

    def _cached(self) -> dict[str, tuple[int, str]]:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        name = repo_folder_name(repo_id=self.name, repo_type=self.kind)
        snapshot = Path(constants.HF_HUB_CACHE, name, "snapshots", self.revision)
        return {
            path.relative_to(snapshot).as_posix(): (path.stat().st_size, path.resolve().name)
            for path in snapshot.rglob("*")
            if path.is_file()
        }

    def _check(self, path: str, expected: str, folder: Path, origin: str) -> None:
        file = folder / path
        if _sum(file, expected) != expected:
            file.unlink()
            raise InputError(
                f"{self}: {path} from {origin} does not have the sum that the hub states "
                f"({expected}); remove it there if it is damaged, and start again"
            )

    def _check_space(self, folder: Path, needed: int) -> None:
        begun = sum(file.stat().st_size for file in (folder / PARTS).rglob("*") if file.is_file())
        free = shutil.disk_usage(folder).free
        if needed - begun > free:
            raise InputError(
                f"{self}: {(needed - begun) / 1e9:.1f} GB are still to be fetched, but {folder} "
                f"has only {free / 1e9:.1f} GB free; make room, or link resources/ to a larger disk"
            )


@contextmanager
def publishing(repository: Repository, target: Path) -> Iterator[Path]:
    """Yield a folder that takes the place of `target`, with a manifest, when the block ends well.

    When it does not, what was fetched stays in the hidden folder for the next start.
    """
    folder = target.with_name(f".{target.name}.partial")
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    remove(folder / PARTS)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "repository": repository.name,
        "revision": repository.revision,
        "bytes": sum(path.stat().st_size for path in files),
        "files": [path.relative_to(folder).as_posix() for path in files],
        "licence": _licence(folder / "README.md"),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    remove(target)
    os.replace(folder, target)


def fetch_model(
    repository: str, revision: str, target: str | Path, supported: Collection[str] = ()
) -> None:
    """Write the folder of a model or sentence encoder from a repository of the hub at a commit.

    Only weights in safetensors, configuration, processor and tokenizer are taken, no pickles, no
    code. Of a model whose `model_type` is not among `supported` (by default the families') no
    weights are fetched.

    Raises:
        InputError: the model cannot be had, is not supported, or has no weights in safetensors.
    """
    supported = supported or families()
    source = Repository(repository, revision)
    files = source.files()
    if CONFIG not in files:
        raise InputError(f"{source}: has no {CONFIG}, so it is not a model of transformers")
    with publishing(source, Path(target)) as folder:
        source.get({CONFIG: files[CONFIG]}, folder)
        family = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("model_type")
        if MODULES not in files and family not in supported:
            raise InputError(
                f"{source}: models of type {family!r} are not supported; supported are "
                f"{', '.join(supported)}"
            )
        beside = _top(files, *BESIDE_WEIGHTS)
        if MODULES in files:
            beside += [path for path in files if fnmatch(path, "[0-9]_*/config.json")]
        source.get({path: files[path] for path in beside}, folder)
        weights = _weights(source, files, folder)
        if absent := [path for path in weights if path not in files]:
            raise InputError(f"{source}: {INDEX} names {', '.join(absent)}, which is missing there")
        source.get({path: files[path] for path in weights}, folder)


def fetch_dataset(
    repository: str, revision: str, patterns: Sequence[str], target: str | Path
) -> None:
    """Write the folder `target` with files of a dataset repository of the hub at a commit.

    Those whose paths match one of `patterns` are taken, and the repository's card and licence.

    Raises:
        InputError: the repository cannot be had, a pattern matches nothing, or a file that matches
            is neither rows, nor an image, nor a zip archive.
    """
    source = Repository(repository, revision, "dataset")
    files = source.files()
    wanted = set()
    for pattern in patterns:
        found = [path for path in files if fnmatch(path, pattern)]
        if not found:
            raise InputError(
                f"{source}: no file matches {pattern}; it has {', '.join(sorted(files)[:SHOWN])}"
                + (f" and {len(files) - SHOWN} more" if len(files) > SHOWN else "")
            )
        wanted.update(found)
    if other := sorted(path for path in wanted if Path(path).suffix.lower() not in DATA):
        raise InputError(
            f"{source}: {', '.join(other[:SHOWN])}: not a kind of data that is read "
            f"({', '.join(DATA)}); name the files more closely"
        )
    wanted.update(_top(files, "README.md", "LICENSE*"))
    with publishing(source, Path(target)) as folder:
        source.get({path: files[path] for path in sorted(wanted)}, folder)


def _weights(source: Repository, files: Iterable[str], folder: Path) -> list[str]:
    if INDEX in files:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return sorted(set(index["weight_map"].values()))
    if SINGLE in files:
        return [SINGLE]
    pickles = _top(files, "*.bin", "*.pt", "*.pth", "*.ckpt")
    found = f"; {', '.join(pickles)} are pickles, which can run code" if pickles else ""
    raise InputError(
        f"{source}: has no weights in safetensors{found}; take a revision or a copy that has them"
    )


def _top(paths: Iterable[str], *patterns: str) -> list[str]:
    """Return the files of the top folder that match one of the patterns."""
    return [
        path
        for path in paths
        if "/" not in path and any(fnmatch(path, pattern) for pattern in patterns)
    ]


def _licence(card: Path) -> str | None:
    """Return the licence that a repository's card names."""
    from huggingface_hub import RepoCard

    if not card.is_file():
        return None
    data = RepoCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True).data
    return getattr(data, "license_name", None) or getattr(data, "license", None)


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _link(source: Path, target: Path) -> None:
    """Link a cached file: a hard link outlives the cache, where the file systems allow one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        target.symlink_to(source)


def _sum(path: Path, like: str) -> str:
    """Return a file's sum of the kind that `like` has: SHA-256, or Git's SHA-1 of a blob."""
    if len(like) == SHA256_LENGTH:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0%b" % (len(data), data), usedforsecurity=False).hexdigest()


@contextmanager
def _explained(repository: Repository, go_on_offline: bool = False) -> Iterator[None]:
    """Turn what goes wrong between here and the hub into an InputError that says what to do.

    With `go_on_offline` a hub that cannot be reached is no error.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise InputError(
            f"{repository}: is gated; accept its terms on its page, then set HF_TOKEN to a token "
            "of that account, or log in with `hf auth login`"
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(
            f"{repository}: the revision does not exist; give a commit from the history of the "
            "repository's files (40 hexadecimal digits)"
        ) from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"{repository}: does not exist, or is private; correct the name, or set HF_TOKEN to a "
            "token that may read it"
        ) from None
    except errors.EntryNotFoundError as error:
        raise InputError(f"{repository}: {_first_line(error)}; correct the revision") from None
    except (errors.HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise InputError(
                f"{repository}: the disk is full; what was fetched is kept: make room and start "
                "again"
            ) from None
        if go_on_offline:
            return
        raise InputError(
            f"{repository}: cannot be fetched ({_first_line(error)}); what was fetched is kept: "
            "start again when the network is there, set HF_ENDPOINT to a mirror, or give a folder "
            "of your own with `source: local`"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _progress_lines() -> Any:
    """Return what hub downloads show their progress with: a line every few seconds."""
    from tqdm import tqdm

    class Lines(tqdm):
        said = time.monotonic()

        def __init__(self, *args: Any, name: str | None = None, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs | {"mininterval": SECONDS_BETWEEN_LINES})

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            if self.total and time.monotonic() - self.said >= SECONDS_BETWEEN_LINES:
                self.said = time.monotonic()
                rate = self.format_dict["rate"] or 0
                left = f", about {(self.total - self.n) / rate:.0f} s left" if rate else ""
                say(f"{self.desc}: {self.n / 1e6:,.0f} of {self.total / 1e6:,.0f} MB{left}")

        def close(self) -> None:
            self.disable = True

    return Lines
