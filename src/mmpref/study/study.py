"""The study: one YAML file, typed and checked before anything runs.

Its topics are the other modules here; what people add (objectives, datasets) declares its settings
where it is. The JSON schema (`config/schema.json`) and the table in `config/README.md` are written
from these classes by `python -m mmpref.study.documentation`; a test fails when they drift.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from mmpref.errors import InputError
from mmpref.study.benchmarks import PACKAGE, BenchmarkSource, Judge
from mmpref.study.explanation import explanation
from mmpref.study.models import Model
from mmpref.study.parts import Name, Part
from mmpref.study.preferences import Preferences
from mmpref.study.reference import Reference
from mmpref.study.registry import OneOf
from mmpref.study.report import Report, Table
from mmpref.study.responses import Responses
from mmpref.study.runs import Run, Training


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

    @model_validator(mode="before")
    @classmethod
    def _training_of_runs(cls, data: Any) -> Any:
        """Give every run the study's training settings, under its own."""
        if not isinstance(data, Mapping) or not isinstance(data.get("runs"), Mapping):
            return data
        shared = data.get("training", {})
        runs = {
            name: {**run, "training": {**shared, **run.get("training", {})}}
            if isinstance(run, Mapping)
            and isinstance(shared, Mapping)
            and isinstance(run.get("training", {}), Mapping)
            else run
            for name, run in data["runs"].items()
        }
        return {**data, "runs": runs}

    @model_validator(mode="after")
    def _references(self) -> "Study":
        for where, name, kind, known in self._named():
            if name not in known:
                hint = get_close_matches(name, list(known), 1)
                raise ValueError(
                    f"{where}: unknown {kind} {name!r}; "
                    + (f"did you mean {hint[0]!r}? " if hint else "")
                    + f"defined are: {', '.join(known) or 'none'}"
                )
        for name, run in self.runs.items():
            if run.training.dtype != self.training.dtype:
                raise ValueError(
                    f"runs.{name}.training.dtype: policy and reference must have one precision; "
                    "give `dtype` in the study's `training`"
                )
        return self

    def _named(self) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
        for name, preferences in self.preferences.items():
            yield f"preferences.{name}.dataset", preferences.dataset, "dataset", self.datasets
            if preferences.bdhs:
                where = f"preferences.{name}.bdhs.model"
                yield where, preferences.bdhs.model, "model", self.models
        for name, run in self.runs.items():
            yield f"runs.{name}.model", run.model, "model", self.models
            if run.preferences:
                where = f"runs.{name}.preferences"
                yield where, run.preferences, "preferences entry", self.preferences
        for name, benchmark in self.benchmarks.items():
            for field, (table, named) in benchmark.references.items():
                where = f"benchmarks.{name}.{field}"
                yield where, named, table.removesuffix("s"), getattr(self, table)
        if "base" in self.table.model_fields_set:
            yield "table.base", self.table.base, "run", self.runs
        for name in self.table.metrics:
            yield f"table.metrics.{name}", name, "benchmark", self.benchmarks
        for name in self.report.colours:
            yield f"report.colours.{name}", name, "run", self.runs
        for name in self.report.labels:
            yield f"report.labels.{name}", name, "run", self.runs


def parse(data: Mapping[str, Any], file: str) -> Study:
    """Check a study's content.

    Raises:
        InputError: something is wrong; the message has a line for every mistake with the file,
            the key and what would be valid.
    """
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        lines = [f"{file}: {explanation(Study, detail)}" for detail in error.errors()]
        raise InputError("\n".join(lines)) from None


def load(path: str | Path) -> Study:
    """Read and check the study in a YAML file.

    Raises:
        InputError: the file is missing, is not YAML, or is not a valid study.
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is not YAML: {error}") from None
    if not isinstance(data, dict):
        raise InputError(
            f"{path}: a study is a mapping with the keys {', '.join(Study.model_fields)}"
        )
    return parse(data, str(path))
