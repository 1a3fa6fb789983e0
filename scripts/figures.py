"""Rule figures: what the tables and the metrics of training look like."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmpref.cli import run
from mmpref.files import replacing
from mmpref.reporting.figures import (
    hallucination_vs_cover,
    palette,
    pieces,
    read_metrics,
    sampling_statistics,
    svg,
    training_curves,
)
from mmpref.reporting.tables import by_base, read_table


def main(
    table: Path,
    runs: tuple[str, ...],
    output: Path,
    bases: str = "{}",
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
        bases: by run the one it is compared with, as JSON
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
    groups = by_base(curves, json.loads(bases)).values()
    parts = [part for group in groups for part in pieces(group)]
    for name, part in _named("training", parts):
        shown = {run: curves[run] for run in part}
        figures[name] = training_curves(shown, colour_of, names)
    found = {path.parts[-2]: json.loads(path.read_text(encoding="utf-8")) for path in statistics}
    for name, part in _named("sampling", pieces(found)):
        figures[name] = sampling_statistics({one: found[one] for one in part})
    with replacing(output) as folder:
        folder.mkdir()
        for name, figure in figures.items():
            (folder / f"{name}.svg").write_text(svg(figure), encoding="utf-8")


def _named(figure: str, parts: Iterable[list[str]]) -> Iterator[tuple[str, list[str]]]:
    """Yield the parts of a figure with their names: FIGURE, FIGURE-2, and so on."""
    for number, part in enumerate(parts, 1):
        yield figure if number == 1 else f"{figure}-{number}", part


if __name__ == "__main__":
    run(main)
