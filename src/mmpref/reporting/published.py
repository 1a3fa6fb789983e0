"""Published numbers beside a study's own, with what is not comparable."""

import math
from collections.abc import Mapping

import pandas as pd

from mmpref.errors import InputError
from mmpref.reporting.tables import interval, markdown_table, number
from mmpref.study.published import Comparison

COLUMNS = [
    *("run", "benchmark", "metric", "own", "low", "high"),
    *("published", "difference", "change", "published_change", "column", "row"),
]
CHANGES = ["difference", "change", "published_change"]


def beside(main: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """Return a row with the columns COLUMNS for each published value, in its order.

    `main` is the main table. `own`, `low` and `high` are the study's mean and interval in the unit
    of the publication, `difference` is own less published. `change` and `published_change` are the
    differences to the run's base, here and there; NaN where no value of the base is published.
    Raises InputError when the main table has no such metric.
    """
    own = main.set_index(["run", "benchmark", "metric"])[["mean", "low", "high"]]
    rows = []
    for one in comparison.values:
        place = (one.run, one.benchmark, one.metric)
        if place not in own.index:
            raise InputError(
                f"published.rows.{one.run}: {one.row!r} has {one.column}, but the scores on "
                f"{one.benchmark} have no {one.metric}; leave the benchmark out of "
                "`published.benchmarks` with null"
            )
        mean, low, high = own.loc[place] * one.factor
        change, published = math.nan, math.nan
        if one.base is not None and one.base_value is not None:
            before = own.loc[(one.base, one.benchmark, one.metric), "mean"] * one.factor
            change, published = mean - before, one.value - one.base_value
        rows.append(
            (
                *(*place, mean, low, high, one.value, mean - one.value),
                *(change, published, one.column, one.row),
            )
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def markdown(rows: pd.DataFrame, comparison: Comparison, labels: Mapping[str, str]) -> str:
    """Return the comparison as Markdown, a table and its remarks for each benchmark."""
    parts = [
        f"Published: {comparison.source}. A change is the difference to the run's base, which "
        "depends less on the evaluator than a value does."
    ]
    parts += [f"- {name}: {title}" for name, title in comparison.tables.items()]
    for benchmark, of_one in rows.groupby("benchmark", sort=False):
        lines = [
            [
                *("run", "metric", "own", "published", "difference"),
                *("own change", "published change", "published as"),
            ],
            ["---", "---", *["---:"] * 5, "---"],
        ]
        for row in of_one.to_dict("records"):
            lines.append(
                [
                    *(labels.get(row["run"], row["run"]), row["metric"]),
                    f"{number(row['own'])} {interval(row['low'], row['high'])}",
                    number(row["published"]),
                    *(number(row[name], signed=True) for name in CHANGES),
                    f"{row['row']}, {row['column']}",
                ]
            )
        remarks = "\n".join(f"- {remark}" for remark in comparison.remarks[str(benchmark)])
        parts += [f"## {benchmark}", markdown_table(lines), f"Not comparable:\n\n{remarks}"]
    if comparison.left_out:
        parts.append(f"Published, but compared with nothing: {', '.join(comparison.left_out)}.")
    return "\n\n".join(parts) + "\n"
