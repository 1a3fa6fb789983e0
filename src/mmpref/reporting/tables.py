"""The main table and the paired differences, from scores of runs, seeds and benchmarks."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mmpref.errors import InputError
from mmpref.scoring.metric import READINGS, Array, bootstrap, check_same_items, estimate
from mmpref.scoring.verdicts import Scores, read_scores

MAIN_COLUMNS = ["run", "benchmark", "metric", "mean", "low", "high", "seeds", "items", "best"]
DIFFERENCE_COLUMNS = ["run", "benchmark", "metric", "difference", "low", "high"]

COLLAPSE = 0.1
"""A run that covers, or ends, less than the base by a larger share than this has collapsed."""

Results = dict[str, dict[str, list[Scores]]]
"""By benchmark, then by run: the scores of each training seed."""


@dataclass(frozen=True)
class ScoreFile:
    """The verdicts of one run and training seed on one benchmark (`write_scores`' Parquet)."""

    run: str
    seed: int
    benchmark: str
    path: str | Path


@dataclass(frozen=True)
class Tables:
    """`main` has the columns MAIN_COLUMNS, `differences` DIFFERENCE_COLUMNS; NaN is undefined.

    `best` is true where a run is better than every other with the same base, beyond the interval of
    their difference; runs that collapsed are neither best nor in the comparison.
    """

    main: pd.DataFrame
    differences: pd.DataFrame


def score_file(path: str | Path) -> ScoreFile:
    """Return the file of verdicts at `.../RUN/seedS/BENCHMARK.parquet`.

    Raises InputError when the path does not end like that.
    """
    found = re.fullmatch(r"(?:.*/)?([^/]+)/seed(\d+)/([^/]+)\.parquet", Path(path).as_posix())
    if not found:
        raise InputError(f"{path}: scores are called RUN/seedS/BENCHMARK.parquet; rename the file")
    return ScoreFile(found[1], int(found[2]), found[3], path)


def read_table(path: str | Path) -> pd.DataFrame:
    """Return a table of `Tables` from its CSV file; a run called `null` or `007` stays that."""
    names = dict.fromkeys(("run", "benchmark", "metric", "row", "column"), str)
    table = pd.read_csv(path, dtype=names, keep_default_na=False)
    numbers = table.columns.difference(names, sort=False)
    table[numbers] = table[numbers].apply(pd.to_numeric)
    return table


def read_results(files: Iterable[ScoreFile]) -> Results:
    """Return the scores in the order of `files`.

    Raises InputError when a file does not hold scores, or the runs of a benchmark were scored on
    different items.
    """
    results: Results = {}
    for file in files:
        runs = results.setdefault(file.benchmark, {})
        runs.setdefault(file.run, []).append(read_scores(file.path))
    for benchmark, runs in results.items():
        check_same_items([scores.table for run in runs.values() for scores in run], benchmark)
    return results


def by_base(runs: Iterable[str], bases: Mapping[str, str]) -> dict[str | None, list[str]]:
    """Return runs by the one that they are compared with, which is among its own, in order.

    `bases` are those of `Study.bases`; runs that have none are together, under None.
    """
    found: dict[str | None, list[str]] = {}
    for run in dict.fromkeys(runs):
        is_base = run in bases.values()
        found.setdefault(bases.get(run, run if is_base else None), []).append(run)
    return found


def summarise(
    results: Results,
    bases: Mapping[str, str],
    seed: int,
    metrics: Mapping[str, Sequence[str]] | None = None,
) -> Tables:
    """Return the means over seeds, and the difference of every run to its base.

    Intervals are those of `bootstrap`; differences are paired, on the same items. `bases` are those
    of `Study.bases`; there are no differences to a base that was not scored on a benchmark. `seed`
    is the study's, for the draws; `metrics` restricts and orders the metrics of the benchmarks it
    names. Raises InputError when it names a metric that a benchmark does not have.
    """
    main, differences = [], []
    for benchmark, runs in results.items():
        first, *others = [one.metrics for scores in runs.values() for one in scores]
        known = {name: first[name] for name in first if all(name in one for one in others)}
        wanted = (metrics or {}).get(benchmark, list(known))
        if unknown := [name for name in wanted if name not in known]:
            raise InputError(
                f"table.metrics.{benchmark}: unknown metric {', '.join(unknown)}; "
                f"valid are: {', '.join(known)}"
            )
        values = {
            run: bootstrap([one.table for one in scores], known, seed, run)
            for run, scores in runs.items()
        }
        upright = [run for run in runs if not _collapsed(values, run, bases.get(run))]
        alike = {run: group for group in by_base(runs, bases).values() for run in group}
        for run, scores in runs.items():
            base = bases.get(run)
            for name in wanted:
                sign = {"lower": -1, "higher": 1, None: 0}[known[name].better]
                leads = [
                    estimate(sign * (values[run][name] - values[other][name])).low > 0
                    for other in upright
                    if other != run and other in alike[run]
                ]
                best = run in upright and any(leads) and all(leads)
                place, sizes = (run, benchmark, name), (len(scores), len(scores[0].table))
                main.append((*place, *estimate(values[run][name]), *sizes, best))
                if base in runs:
                    difference = estimate(values[run][name] - values[base][name])
                    differences.append((*place, *difference))
    return Tables(
        pd.DataFrame(main, columns=MAIN_COLUMNS),
        pd.DataFrame(differences, columns=DIFFERENCE_COLUMNS),
    )


def _collapsed(values: Mapping[str, Mapping[str, Array]], run: str, base: str | None) -> bool:
    """Return whether a run lost more than `COLLAPSE` of what the base covers, or of its endings.

    Such a run hallucinates less only because it says less. `values` holds what `bootstrap` returns
    for each run of a benchmark; the whole interval has to lie beyond the limit.
    """
    of_base = values.get(base or "", {})
    for metric, before in of_base.items():
        now = values[run][metric]
        name = metric.rpartition("/")[2]
        if name == "unfinished":
            now, before = 1 - now, 1 - before
        if (
            name in ("Cover", "Recall", "unfinished")
            and estimate(now - (1 - COLLAPSE) * before).high < 0
        ):
            return True
    return False


def markdown(
    tables: Tables, bases: Mapping[str, str], labels: Mapping[str, str] | None = None
) -> str:
    """Return both tables as Markdown: a row per run, a column per metric.

    Each benchmark, and each part of it, has a table of its own, and one of differences for each
    base. `labels` are the names to print for runs; a run without one is printed as it is called.
    """
    labels = labels or {}
    parts = []
    for benchmark, rows in tables.main.groupby("benchmark", sort=False):
        parts.append(
            f"## {benchmark}\n\nMean over seeds [95 % interval over items and seeds], "
            f"{rows['items'].iloc[0]} items."
        )
        for part, metrics in metric_parts(rows["metric"]).items():
            if part:
                reading = READINGS.get(part.partition("/")[0])
                parts.append(f"### {benchmark}: {part}" + (f" ({reading})" if reading else ""))
            parts.append(_grid(rows[rows["metric"].isin(metrics)], "mean", labels))
            found = tables.differences
            found = found[(found["benchmark"] == benchmark) & found["metric"].isin(metrics)]
            for base, runs in by_base(found["run"], bases).items():
                parts.append(
                    f"Difference to {labels.get(str(base), base)} on the same items "
                    "[95 % interval].\n\n"
                    + _grid(found[found["run"].isin(runs)], "difference", labels)
                )
    return "\n\n".join(parts) + "\n"


def metric_parts(metrics: Iterable[str]) -> dict[str, list[str]]:
    """Return metrics by part, in order: a metric of a part of the items is called PART/METRIC."""
    parts: dict[str, list[str]] = {}
    for metric in dict.fromkeys(metrics):
        parts.setdefault(metric.rpartition("/")[0], []).append(metric)
    return parts


def markdown_table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as a Markdown table: the header, how columns are aligned, then the content.

    A pipe in a cell stays a part of its text.
    """
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows
    )


def number(value: float, signed: bool = False) -> str:
    """Return a metric's value as text: two decimals, one from 10 on, a dash for NaN.

    A `signed` number has its plus, but what rounds to zero has no sign.
    """
    if math.isnan(value):
        return "–"
    text = f"{value:{'+' if signed else ''}.{1 if abs(value) >= 10 else 2}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def interval(low: float, high: float, signed: bool = False) -> str:
    """Return an interval as text, `[0.48, 0.56]`."""
    return f"[{number(low, signed)}, {number(high, signed)}]"


def with_interval(row: Mapping[str, Any] | pd.Series, value: str = "mean") -> str:
    """Return a row's `mean` or `difference` and its interval as text, a dash where it is NaN."""
    signed = value == "difference"
    text = number(row[value], signed)
    return text if math.isnan(row[value]) else f"{text} {interval(row['low'], row['high'], signed)}"


def _grid(rows: pd.DataFrame, value: str, labels: Mapping[str, str]) -> str:
    """Return a Markdown table with a row per run, and a column per metric and for the seeds."""
    seeds = ["seeds"] if "seeds" in rows else []
    header = [metric.rpartition("/")[2] for metric in dict.fromkeys(rows["metric"])] + seeds
    lines = [["run", *header], ["---", *["---:"] * len(header)]]
    for run, cells in rows.groupby("run", sort=False):
        shown = [with_interval(row, value) for row in cells.to_dict("records")]
        lines.append([labels.get(str(run), str(run)), *shown, *cells[seeds].iloc[0].astype(str)])
    return markdown_table(lines)
