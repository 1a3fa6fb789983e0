"""Published numbers beside a study's own, with what is not comparable."""

from collections.abc import Mapping

import pandas as pd

from mmpref.errors import InputError
from mmpref.reporting.tables import interval, markdown_table, number
from mmpref.study.published import Comparison

COLUMNS = [
    *("run", "benchmark", "metric", "own", "low", "high"),
    *("published", "difference", "column", "row"),
]


def beside(main: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """Return a row with the columns COLUMNS for each published value, in its order.

    `main` is the main table. `own`, `low` and `high` are the study's mean and interval in the unit
    of the publication, `difference` is own less published. Raises InputError when the main table
    has no such metric.
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
        rows.append((*place, mean, low, high, one.value, mean - one.value, one.column, one.row))
    return pd.DataFrame(rows, columns=COLUMNS)


def markdown(rows: pd.DataFrame, comparison: Comparison, labels: Mapping[str, str]) -> str:
    """Return the comparison as Markdown, a table and its remarks for each benchmark."""
    parts = [f"Published: {comparison.source}."]
    parts += [f"- {name}: {title}" for name, title in comparison.tables.items()]
    for benchmark, of_one in rows.groupby("benchmark", sort=False):
        lines = [
            ["run", "metric", "own", "published", "difference", "published as"],
            ["---", "---", "---:", "---:", "---:", "---"],
        ]
        for row in of_one.to_dict("records"):
            lines.append(
                [
                    *(labels.get(row["run"], row["run"]), row["metric"]),
                    f"{number(row['own'])} {interval(row['low'], row['high'])}",
                    *(number(row["published"]), number(row["difference"], signed=True)),
                    f"{row['row']}, {row['column']}",
                ]
            )
        remarks = "\n".join(f"- {remark}" for remark in comparison.remarks[str(benchmark)])
        parts += [f"## {benchmark}", markdown_table(lines), f"Not comparable:\n\n{remarks}"]
    if comparison.left_out:
        parts.append(f"Published, but compared with nothing: {', '.join(comparison.left_out)}.")
    return "\n\n".join(parts) + "\n"
