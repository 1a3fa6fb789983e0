"""Rule figures: what the tables and the metrics of training look like."""

import json
from collections import defaultdict
from pathlib import Path

from mmpref.cli import run
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


def main(
    table: Path,
    runs: tuple[str, ...],
    output: Path,
    metrics: tuple[Path, ...] = (),
    statistics: tuple[Path, ...] = (),
    colours: str = "{}",
    labels: str = "{}",
) -> None:
    """Write one SVG file for each figure the study has data for.

    Args:
        table: the main table, CSV
        runs: the study's runs, in its order
        output: folder to write
        metrics: of trainings, RUN/seedS/metrics.jsonl
        statistics: of samplings, PREFERENCES/statistics.json
        colours: colours of runs, as JSON
        labels: labels of runs, as JSON
    """
    names = json.loads(labels)
    colour_of = palette(runs, json.loads(colours))
    rows = read_table(table)
    figures = {}
    for benchmark, part in rows.groupby("benchmark", sort=False):
        if {"CHAIRs", "CHAIRi", "Cover"} <= set(part["metric"]):
            figure = hallucination_vs_cover(rows, str(benchmark), colour_of, names)
            figures[f"cover-{benchmark}"] = figure
    curves = defaultdict(list)
    for path in metrics:
        curves[path.parts[-3]].append(read_metrics(path))
    if curves:
        figures["training"] = training_curves(curves, colour_of, names)
    if statistics:
        figures["sampling"] = sampling_statistics(
            {path.parts[-2]: json.loads(path.read_text(encoding="utf-8")) for path in statistics}
        )
    with replacing(output) as folder:
        folder.mkdir()
        for name, figure in figures.items():
            (folder / f"{name}.svg").write_text(svg(figure), encoding="utf-8")


if __name__ == "__main__":
    run(main)
