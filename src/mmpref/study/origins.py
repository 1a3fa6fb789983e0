"""What a study takes from elsewhere: what the report has to name with its licence."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmpref.study.parts import Part
from mmpref.study.study import Study

DOWNLOADS = "src/mmpref/downloads.yaml"


class ModelOrigin(Part):
    """What a study knows of a model, whether or not its folder is still there.

    `part` is what it is used as, `repository` its name on the hub, which has it in another form
    where it is `converted`.
    """

    part: str
    name: str
    folder: str
    repository: str | None = None
    revision: str | None = None
    converted: bool = False


def datasets_of(study: Study) -> list[str]:
    """Return the datasets whose pairs are trained on or whose prompts are asked, by name."""
    used = {part.dataset for part in study.preferences.values()}
    for benchmark in study.benchmarks.values():
        used |= {name for table, name in benchmark.references.values() if table == "datasets"}
    return [name for name in study.datasets if name in used]


def model_of(study: Study, name: str, folder: str, part: str = "model") -> ModelOrigin:
    """Return what the study knows of its model `name`, which lies in `folder`."""
    model = study.models[name]
    bunny = model.source == "bunny"
    origin = ModelOrigin(part=part, name=name, folder=folder, converted=bunny)
    # Of a folder of the user's own only its manifest could say what it holds.
    if model.source == "hub" or (model.source == "bunny" and not model.folder):
        return origin.model_copy(
            update={"repository": model.repository, "revision": model.revision}
        )
    return origin


def models_of(study: Study, folders: Mapping[str, str]) -> list[ModelOrigin]:
    """Return the models and sentence encoders of a study; `folders` says where the models lie.

    What the workflow trains from nothing, the toy model, is not from elsewhere.
    """
    samplers = [part.sampler for part in study.preferences.values() if part.sampler]
    used = {run.model for run in study.runs.values()} | {sampler.model for sampler in samplers}
    found = [
        model_of(study, name, folders[name])
        for name, model in study.models.items()
        if name in used and model.source != "toyworld"
    ]
    encoders = {part.encoder_folder for part in study.preferences.values()}
    return found + [
        ModelOrigin(part="encoder", name=folder, folder=folder)
        for folder in sorted(filter(None, encoders))
    ]


def benchmarks_of(study: Study, downloads: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
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
