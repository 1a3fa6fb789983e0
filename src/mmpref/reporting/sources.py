"""What went into a study: where it is from, and under which licence, as far as that is recorded."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpref.files import MANIFEST, sha256
from mmpref.fingerprint import model_identity
from mmpref.study.origins import ModelOrigin

ABOUT = "dataset.json"
"""Beside the pairs of a dataset: `origins`, a list of {source, revision, licence}."""

UNKNOWN = "unknown"

_REPOSITORY = r"[\w.-]+/[\w.-]+"
_ON_THE_HUB = re.compile(rf"({_REPOSITORY}) on the dataset hub|\A({_REPOSITORY})\Z")
_NON_COMMERCIAL = re.compile(r"\bNC\b|non-?commercial", re.IGNORECASE)
_PLACE = re.compile(r"(?<=\s)/(?:[^\s/]+/)+")


@dataclass(frozen=True)
class Source:
    """Something that went in: which part it has, where it is from, and what it is known by.

    `stated_in` is the file that says its licence; `converted` that the hub has it in another form.
    """

    part: str
    name: str
    revision: str | None = None
    licence: str | None = None
    digest: str | None = None
    stated_in: str | None = None
    converted: bool = False

    @property
    def repository(self) -> str | None:
        """Its name on the hub, if it comes from there."""
        found = _ON_THE_HUB.search(self.name) if self.revision else None
        return found and (found[1] or found[2])

    @property
    def non_commercial(self) -> bool:
        """Whether its licence forbids commercial use, by its name."""
        return bool(_NON_COMMERCIAL.search(self.licence or ""))


def model_source(origin: ModelOrigin, identified: bool = True) -> Source:
    """Return what the study and the manifest in its folder, if that is still there, say of a model.

    When `identified`, one that is not a repository's has the name that the study gives it, and a
    digest (`mmpref.fingerprint.model_identity`); otherwise what it was made of.

    Raises:
        InputError: there are no weights in the folder.
    """
    folder = Path(origin.folder)
    manifest = _read(folder / MANIFEST)
    name = manifest.get("repository") or origin.repository
    revision = manifest.get("revision") or origin.revision
    digest = None
    if name is None and identified:
        name, revision = origin.name, None
        digest = f"mmpref:{model_identity(folder)}" if folder.is_dir() else None
    licence = manifest.get("licence")
    return Source(
        origin.part,
        public(name or manifest.get("source") or origin.name),
        revision,
        licence,
        digest,
        public(str(folder / MANIFEST)) if licence else None,
        origin.converted,
    )


def data_sources(dataset: str | Path, name: str) -> list[Source]:
    """Return where the pairs of a dataset come from: what `dataset.json` beside them says."""
    about = Path(dataset).with_name(ABOUT)
    origins = _read(about).get("origins", [])
    found = [
        Source("data", public(one["source"]), one["revision"], one["licence"], stated_in=ABOUT)
        for one in origins
    ]
    return found or [Source("data", name)]


def file_source(part: str, file: str | Path) -> Source:
    """Return a file by its name and SHA-256."""
    return Source(part, Path(file).name, digest=f"sha256:{sha256(file)}")


def sources_of(
    models: Iterable[ModelOrigin],
    benchmarks: Iterable[Mapping[str, str]],
    datasets: Iterable[Path],
) -> list[Source]:
    """Return what went into a study from elsewhere.

    Models and benchmarks are as `mmpref.study.origins` knows them, `datasets` files `dataset.json`.
    """
    found = [model_source(one, identified=False) for one in models]
    found += [
        Source(one["part"], one["name"], one["revision"], one["licence"], None, one["stated_in"])
        for one in benchmarks
    ]
    for file in datasets:
        name = file.parent.name
        for one in _read(file)["origins"]:
            said = f"datasets/{name}/{ABOUT}" if one["licence"] else None
            place = public(one["source"])
            found.append(
                Source(f"dataset {name}", place, one["revision"], one["licence"], stated_in=said)
            )
    return list(dict.fromkeys(found))


def public(value: Any) -> Any:
    """Return settings, or a text, without the folders of paths that name a place on this machine.

    What is left is the last part: of `/home/alice/povid.jsonl` it is `povid.jsonl`.
    """
    if isinstance(value, Mapping):
        return {str(key): public(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [public(one) for one in value]
    if not isinstance(value, str):
        return value
    return Path(value).name if value.startswith("/") else _PLACE.sub("", value)


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
