"""The study: one YAML file, typed and checked before anything runs.

What people add (objectives, datasets) declares its settings where it is. `config/schema.json` and
the tables of `config/README.md` are written from these classes; a test fails when they drift.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from mmpref.errors import InputError
from mmpref.study.benchmarks import PACKAGE, BenchmarkSource, Judge, Responses
from mmpref.study.explanation import did_you_mean, explanation, read_yaml, wrong
from mmpref.study.models import Model
from mmpref.study.parts import Name, Part
from mmpref.study.preferences import Preferences
from mmpref.study.published import Comparison, Published, compare
from mmpref.study.reference import Reference
from mmpref.study.registry import OneOf
from mmpref.study.report import Report, Table
from mmpref.study.runs import Run, Training

OF_ALL_RUNS = {
    "dtype": "policy and reference must have one precision",
    "max_length": "all runs must train on the same pairs",
}
"""Settings of `training` that no run has of its own, and why."""


class Study(Part):
    """A whole study."""

    name: Name
    seed: int = Field(0, description="of everything but the training runs")
    results: str = Field("results", description="folder of what the study writes")
    models: dict[Name, Model] = Field(min_length=1)
    datasets: dict[Name, Annotated[Part, OneOf("mmpref.datasets", "source")]] = Field(
        default_factory=dict
    )
    preferences: dict[Name, Preferences] = Field(default_factory=dict)
    training: Training = Field(default_factory=Training, description="default of all runs")
    reference: Reference = Field(default_factory=Reference)
    runs: dict[Name, Run] = Field(min_length=1)
    responses: Responses = Field(default_factory=Responses)
    judges: dict[Name, Judge] = Field(default_factory=dict)
    benchmarks: dict[Name, Annotated[BenchmarkSource, OneOf(PACKAGE, "source")]] = Field(
        default_factory=dict
    )
    table: Table = Field(default_factory=Table)
    report: Report = Field(default_factory=Report)
    published: Published | None = Field(None, description="numbers of a paper beside the own ones")

    @model_validator(mode="before")
    @classmethod
    def _training_of_runs(cls, data: Any) -> Any:
        """Give every run the study's training settings, under its own."""
        runs, shared = data.get("runs"), data.get("training", {})
        if not isinstance(runs, Mapping) or not isinstance(shared, Mapping):
            return data

        def whole(run: Any) -> Any:
            own = run.get("training", {}) if isinstance(run, Mapping) else None
            return {**run, "training": {**shared, **own}} if isinstance(own, Mapping) else run

        return {**data, "runs": {name: whole(run) for name, run in runs.items()}}

    @model_validator(mode="after")
    def _references(self) -> "Study":
        for where, name, table in self._named():
            known = getattr(self, table)
            if name not in known:
                kind = "preferences entry" if table == "preferences" else table.removesuffix("s")
                raise ValueError(
                    f"{where}: unknown {kind} {name!r}; {did_you_mean(name, known)}"
                    f"defined are: {', '.join(known) or 'none'}"
                )
        for name, run in self.runs.items():
            for key, why in OF_ALL_RUNS.items():
                if getattr(run.training, key) != getattr(self.training, key):
                    raise ValueError(
                        f"runs.{name}.training.{key}: {why}; give `{key}` in the study's `training`"
                    )
        self.comparison()
        return self

    def comparison(self) -> Comparison | None:
        """Return the published values that stand beside the study's own.

        Raises InputError and ValueError as `mmpref.study.published.compare`.
        """
        if self.published is None:
            return None
        return compare(
            self.published, self.benchmarks, self.judges, self.table.metrics, self.bases()
        )

    def bases(self) -> dict[str, str]:
        """Return by run the one that it is compared with, where there is one.

        Models differ before any training: a run's base is that of its own model, unless
        `table.base` names one for all. A base is compared with nothing.
        """
        as_they_are: dict[str, str] = {}
        for name, run in self.runs.items():
            if run.objective is None:
                as_they_are.setdefault(run.model, name)
        found = {
            name: self.table.base or as_they_are.get(run.model) for name, run in self.runs.items()
        }
        return {name: base for name, base in found.items() if base and base != name}

    def _named(self) -> Iterator[tuple[str, str, str]]:
        """Yield where something is named, its name, and the table that must have it."""
        for key, preferences in self.preferences.items():
            yield f"preferences.{key}.dataset", preferences.dataset, "datasets"
            for field in ("bdhs", "distortion"):
                if sampler := getattr(preferences, field):
                    yield f"preferences.{key}.{field}.model", sampler.model, "models"
        for key, run in self.runs.items():
            yield f"runs.{key}.model", run.model, "models"
            if run.preferences:
                yield f"runs.{key}.preferences", run.preferences, "preferences"
        for key, benchmark in self.benchmarks.items():
            for field, (table, name) in benchmark.references.items():
                yield f"benchmarks.{key}.{field}", name, table
        if self.table.base:
            yield "table.base", self.table.base, "runs"
        for where, names, table in (
            ("table.metrics", self.table.metrics, "benchmarks"),
            ("report.colours", self.report.colours, "runs"),
            ("report.labels", self.report.labels, "runs"),
            ("published.rows", self.published.rows if self.published else {}, "runs"),
        ):
            for name in names:
                yield f"{where}.{name}", name, table
        for name, own in self.published.benchmarks.items() if self.published else ():
            if own is not None:
                yield f"published.benchmarks.{name}", own, "benchmarks"


def parse(data: Mapping[str, Any], file: str) -> Study:
    """Check a study's content.

    Raises InputError when something is wrong, with a line for every mistake: the file, the key and
    what would be valid.
    """
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        raise wrong(file, error, partial(explanation, Study)) from None


def load(path: str | Path) -> Study:
    """Read and check the study in a YAML file. Raises InputError as `parse`."""
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise InputError(
            f"{path}: a study is a mapping with the keys {', '.join(Study.model_fields)}"
        )
    return parse(data, str(path))
