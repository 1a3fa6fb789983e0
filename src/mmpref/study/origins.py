"""What a study takes from elsewhere: what the report has to name with its licence."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmpref.study.study import Study

DOWNLOADS = "src/mmpref/downloads.yaml"

Known = dict[str, str | None]
"""`part` and `name`, and as far as it is known `revision`, `licence`, `stated_in`, `folder`."""


def datasets_of(study: Study) -> list[str]:
    """Return the datasets whose pairs are trained on or whose prompts are asked, by name."""
    used = {part.dataset for part in study.preferences.values()}
    for benchmark in study.benchmarks.values():
        used |= {name for table, name in benchmark.references.values() if table == "datasets"}
    return [name for name in study.datasets if name in used]


def models_of(study: Study, folders: Mapping[str, str]) -> list[Known]:
    """Return the models and sentence encoders of a study; `folders` says where the models lie.

    What the workflow trains from nothing, the toy model, is not from elsewhere.
    """
    samplers = [part.sampler for part in study.preferences.values() if part.sampler]
    used = {run.model for run in study.runs.values()} | {sampler.model for sampler in samplers}
    found: list[Known] = []
    for name, model in study.models.items():
        if name in used and model.source != "toyworld":
            # Of a folder of the user's own only its manifest could say what it holds.
            fetched = model.source == "hub" or (model.source == "bunny" and not model.folder)
            known = (model.repository, model.revision) if fetched else (name, None)
            found.append(
                {"part": "model", "name": known[0], "revision": known[1], "folder": folders[name]}
            )
    encoders = {part.bdhs.encoder_folder for part in study.preferences.values() if part.bdhs}
    for folder in sorted(filter(None, encoders)):
        found.append({"part": "encoder", "name": folder, "folder": folder})
    return found


def benchmarks_of(study: Study, downloads: Mapping[str, Mapping[str, Any]]) -> list[Known]:
    """Return the downloads that benchmarks are made from; `downloads` is what DOWNLOADS holds."""
    users: dict[tuple[str, bool], list[str]] = {}
    for name, part in study.benchmarks.items():
        for download, own in _downloads_of(part):
            users.setdefault((download, own), []).append(name)
    return [
        {
            "part": f"benchmark {', '.join(names)}",
            "name": downloads[download]["source"],
            "revision": "a copy of your own" if own else downloads[download]["revision"],
            "licence": downloads[download]["licence"],
            "stated_in": DOWNLOADS,
        }
        for (download, own), names in users.items()
    ]


def _downloads_of(part: Any) -> Iterator[tuple[str, bool]]:
    """Yield the downloads of a benchmark, and whether the study has a folder of its own instead."""
    if part.source == "public":
        yield part.entry.data, part.data is not None
        if part.entry.images != part.entry.data:
            yield part.entry.images, part.images is not None
        if part.entry.beside and not part.data:
            yield part.entry.beside, False
        if part.entry.nltk:
            yield "nltk_data", False
