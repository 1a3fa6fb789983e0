"""Rule figures: what the tables and the metrics of training look like."""

import argparse
import json
from collections import defaultdict
from pathlib import Path

from mmpref.cli import ending
from mmpref.files import replacing
from mmpref.reporting.figures import (
    hallucination_vs_cover,
    palette,
    read_metrics,
    sampling_statistics,
    svg,
    training_curves,
)
from mmpref.reporting.tables import read_table


def main() -> None:
    """Parse the arguments and write one SVG file for each figure the study has data for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", required=True, help="the main table (CSV)")
    parser.add_argument("--runs", nargs="+", required=True, help="the study's runs, in its order")
    parser.add_argument("--metrics", nargs="*", default=[], help="RUN/seedS/metrics.jsonl")
    parser.add_argument("--statistics", nargs="*", default=[], help="PREFERENCES/statistics.json")
    parser.add_argument("--colours", default="{}", help="colours of runs, as JSON")
    parser.add_argument("--labels", default="{}", help="labels of runs, as JSON")
    parser.add_argument("--output", required=True, help="folder to write")
    arguments = parser.parse_args()
    labels = json.loads(arguments.labels)
    colours = palette(arguments.runs, json.loads(arguments.colours))
    table = read_table(arguments.table)
    figures = {}

    for benchmark, rows in table.groupby("benchmark", sort=False):
        if {"CHAIRs", "CHAIRi", "Cover"} <= set(rows["metric"]):
            figure = hallucination_vs_cover(table, str(benchmark), colours, labels)
            figures[f"cover-{benchmark}"] = figure
    curves = defaultdict(list)
    for path in map(Path, arguments.metrics):
        curves[path.parts[-3]].append(read_metrics(path))
    if curves:
        figures["training"] = training_curves(curves, colours, labels)
    statistics = {
        path.parts[-2]: json.loads(path.read_text(encoding="utf-8"))
        for path in map(Path, arguments.statistics)
    }
    if statistics:
        figures["sampling"] = sampling_statistics(statistics)

    with replacing(arguments.output) as folder:
        folder.mkdir()
        for name, figure in figures.items():
            (folder / f"{name}.svg").write_text(svg(figure), encoding="utf-8")


if __name__ == "__main__":
    ending(main)
