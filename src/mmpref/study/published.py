"""Published numbers, and which of them stand beside a study's own.

A file of them (`config/published/*.yaml`) is the paper's tables as printed, with what each column
is called here. What a study compares is worked out when it is read, so that nothing runs that
cannot be compared in the end.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from mmpref.study.benchmarks import BenchmarkSource, Judge
from mmpref.study.explanation import did_you_mean, read_yaml, wrong
from mmpref.study.parts import Name, Part

ROOT = Path(__file__).parents[3]
NOT_STATED = "not stated"


class Published(Part):
    """Published numbers to show beside the study's own."""

    file: str = Field(description="for example config/published/mdpo.yaml")
    rows: dict[Name, list[str]] = Field(
        description="rows a run is compared with, for example {mdpo: ['Table 2: mDPO']}"
    )
    benchmarks: dict[Name, Name | None] = Field(
        description="by the name of a benchmark in the file: which of the study's it is compared "
        "with; null: none, and the report says so"
    )


class Column(Part):
    """A metric of a published table; `metric` is what it is called here, None if there is none."""

    metric: str | None = None
    better: Literal["lower", "higher"]
    factor: float = 1
    """Values here are multiplied by it to be in the unit of the table."""


class PublishedBenchmark(Part):
    """A benchmark as the publication used it; `counterparts` are benchmarks (or kinds) here."""

    counterparts: list[str] = Field(default_factory=list)
    judge: str | None = None
    harness: str = NOT_STATED
    remark: str
    metrics: dict[str, Column]


class PublishedTable(Part):
    """A table as printed: `columns` are BENCHMARK/METRIC, a row has a number or None for each."""

    title: str
    model: str
    source: str | None = None
    remark: str | None = None
    columns: list[str]
    rows: dict[str, list[float | None]]


class Publication(Part):
    """The numbers of a paper."""

    source: str
    benchmarks: dict[str, PublishedBenchmark]
    tables: dict[str, PublishedTable]

    @model_validator(mode="after")
    def _whole(self) -> "Publication":
        columns = {
            f"{name}/{metric}" for name, one in self.benchmarks.items() for metric in one.metrics
        }
        for name, table in self.tables.items():
            if unknown := set(table.columns) - columns:
                raise ValueError(
                    f"tables.{name}.columns: unknown {', '.join(sorted(unknown))}; describe it "
                    "under `benchmarks`"
                )
            for row, values in table.rows.items():
                if len(values) != len(table.columns):
                    raise ValueError(
                        f"tables.{name}.rows.{row}: has {len(values)} values for "
                        f"{len(table.columns)} columns; write null where there is none"
                    )
        return self

    @property
    def rows(self) -> dict[str, tuple[str, str]]:
        """Table and row by what a study calls a row, `TABLE: ROW`."""
        return {
            f"{name}: {row}": (name, row)
            for name, table in self.tables.items()
            for row in table.rows
        }


class Beside(Part):
    """A published value, and the study's own that stands beside it.

    `base` is the run that the run is compared with, and `base_value` what is published of it in
    the same column: evaluators differ more in values than in what a training changes.
    """

    run: str
    benchmark: str
    metric: str
    row: str
    column: str
    value: float
    factor: float
    base: str | None = None
    base_value: float | None = None


class Comparison(Part):
    """The published values beside a study's own, and all that has to be said about them.

    `tables` describes the tables that the rows are from. `remarks` holds by benchmark of the study
    what is not comparable, `left_out` the columns that are compared with nothing.
    """

    source: str
    tables: dict[str, str]
    values: list[Beside]
    remarks: dict[str, list[str]]
    left_out: list[str]


def load_publication(file: str) -> Publication:
    """Read published numbers; `file` is relative to the working directory or the repository.

    Raises InputError when it cannot be read or something in it is wrong.
    """
    path = file if Path(file).exists() else ROOT / file
    try:
        return Publication.model_validate(read_yaml(path))
    except ValidationError as error:
        raise wrong(file, error) from None


def compare(
    published: Published,
    benchmarks: Mapping[str, BenchmarkSource],
    judges: Mapping[str, Judge],
    shown: Mapping[str, list[str]],
    bases: Mapping[str, str],
) -> Comparison:
    """Return what of a publication stands beside a study with `benchmarks`.

    `shown` are the metrics of its tables by benchmark, where it restricts them; `bases` are by run
    the ones that they are compared with. Raises InputError
    when the file is wrong, and ValueError when a row is unknown or has a value that the study has
    no metric for.
    """
    publication = load_publication(published.file)
    for name in published.benchmarks:
        if name not in publication.benchmarks:
            raise ValueError(
                f"published.benchmarks.{name}: is not in {published.file}; "
                f"{did_you_mean(name, publication.benchmarks)}"
                f"valid are: {', '.join(publication.benchmarks)}"
            )
    values, left_out, used = list[Beside](), list[str](), dict[str, dict[str, None]]()
    cells = list(_cells(published, publication))
    for run, row, column, value in cells:
        name, _, metric = column.partition("/")
        where = f"published.rows.{run}: {row!r} has the metric {column}"
        if name not in published.benchmarks:
            raise ValueError(
                f"{where}, which the study lacks; write under published.benchmarks which benchmark "
                f"of the study it is compared with, or `{name}: null` for none"
            )
        own = published.benchmarks[name]
        if own is None:
            left_out.append(column)
            continue
        described = publication.benchmarks[name]
        measure = described.metrics[metric]
        advice = f"correct that, or leave it out with `published: {{benchmarks: {{{name}: null}}}}`"
        if reason := _missing(own, benchmarks, described, measure, shown):
            raise ValueError(f"{where}, which the study lacks: {reason}; {advice}")
        assert measure.metric is not None
        before = _of_base(bases.get(run), row, column, cells)
        values.append(
            Beside(
                run=run,
                benchmark=own,
                metric=measure.metric,
                row=row,
                column=column,
                value=value,
                factor=measure.factor,
                base=None if before is None else bases[run],
                base_value=before,
            )
        )
        used.setdefault(name, {})[publication.rows[row][0]] = None
    tables = {name: publication.tables[name] for of_one in used.values() for name in of_one}
    remarks: dict[str, list[str]] = {}
    for name, of_one in used.items():
        own = published.benchmarks[name]
        assert own is not None
        found = remarks.setdefault(own, [])
        found += _remarks(publication.benchmarks[name], benchmarks[own], judges)
        found += [f"{one}: {tables[one].remark}" for one in of_one if tables[one].remark]
    return Comparison(
        source=publication.source,
        tables={
            name: f"{table.title} ({table.model}; {table.source or publication.source})"
            for name, table in tables.items()
        },
        values=values,
        remarks=remarks,
        left_out=list(dict.fromkeys(left_out)),
    )


def _cells(published: Published, publication: Publication) -> Iterator[tuple[str, str, str, float]]:
    """Yield run, row, column and value of what the runs are compared with."""
    rows = publication.rows
    for run, wanted in published.rows.items():
        for name in wanted:
            if name not in rows:
                raise ValueError(
                    f"published.rows.{run}: unknown row {name!r}; {did_you_mean(name, rows)}a row "
                    f"of {published.file} is called 'TABLE: ROW', with TABLE one of "
                    f"{', '.join(publication.tables)}"
                )
            table, row = publication.tables[rows[name][0]], rows[name][1]
            for column, value in zip(table.columns, table.rows[row], strict=True):
                if value is not None:
                    yield run, name, column, value


def _of_base(
    base: str | None, row: str, column: str, cells: Iterable[tuple[str, str, str, float]]
) -> float | None:
    """Return what is published of a base in a column: in the table of `row` if it is there."""
    found = {other: value for run, other, key, value in cells if (run, key) == (base, column)}
    table = row.partition(": ")[0]
    same = [value for other, value in found.items() if other.partition(": ")[0] == table]
    return next(iter([*same, *found.values()]), None)


def _missing(
    own: str,
    benchmarks: Mapping[str, BenchmarkSource],
    described: PublishedBenchmark,
    measure: Column,
    shown: Mapping[str, list[str]],
) -> str | None:
    """Return why a benchmark of the study has no value for a published metric, None if it has."""
    part = benchmarks[own]
    if part.measures not in described.counterparts or measure.metric is None:
        valid = ", ".join(described.counterparts) or "none of the benchmarks here"
        return f"{own!r} is {part.measures}, and it is measured by {valid}"
    if reason := part.lacks(measure.metric):
        return f"{own!r} {reason}"
    if own in shown and measure.metric not in shown[own]:
        return f"table.metrics.{own} leaves {measure.metric} out"
    return None


def _remarks(
    described: PublishedBenchmark, part: BenchmarkSource, judges: Mapping[str, Judge]
) -> Iterator[str]:
    """Yield in sentences what differs between a published benchmark and the study's."""
    own = [judges[name].model for table, name in part.references.values() if table == "judges"]
    if described.judge or own:
        yield f"Judge there: {described.judge or 'none'}; here: {', '.join(own) or 'none'}."
    yield f"Harness there: {described.harness}."
    yield described.remark
