"""Rule page: the report, one HTML file."""

import argparse
import importlib.metadata
import json
from pathlib import Path

from mmpref.cli import ending
from mmpref.records.items import read_items
from mmpref.records.pairs import read_pairs
from mmpref.reporting.figures import palette
from mmpref.reporting.page import Figures, Sampled, write_page
from mmpref.reporting.tables import Tables, read_results, read_table, score_file

PACKAGES = ("snakemake", "pandas", "matplotlib", "pillow")


def main() -> None:
    """Parse the arguments and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores", nargs="+", required=True, help="RUN/seedS/BENCHMARK.parquet")
    parser.add_argument("--items", nargs="+", required=True, help="BENCHMARK/items.parquet")
    parser.add_argument("--table", required=True, help="the main table (CSV)")
    parser.add_argument("--differences", required=True, help="the differences to the base (CSV)")
    parser.add_argument("--figures", required=True, help="folder of SVG files")
    parser.add_argument("--preferences", nargs="*", default=[], help="folders of sampled pairs")
    parser.add_argument("--settings", required=True, help="the study's `report`, as JSON")
    parser.add_argument("--study", required=True, help="the resolved study, as YAML")
    parser.add_argument("--name", required=True, help="of the study")
    parser.add_argument("--base", required=True, help="the run the others are compared with")
    parser.add_argument("--seed", type=int, required=True, help="the study's")
    parser.add_argument("--output", required=True, help="HTML to write")
    arguments = parser.parse_args()
    settings = json.loads(arguments.settings)
    results = read_results(score_file(path) for path in arguments.scores)
    runs = list(dict.fromkeys(run for benchmark in results.values() for run in benchmark))
    figures = {
        path.stem: path.read_text(encoding="utf-8")
        for path in sorted(Path(arguments.figures).glob("*.svg"))
    }
    write_page(
        arguments.output,
        title=settings["title"] or arguments.name,
        seed=arguments.seed,
        base=arguments.base,
        results=results,
        tables=Tables(read_table(arguments.table), read_table(arguments.differences)),
        items={Path(path).parts[-2]: read_items(path) for path in arguments.items},
        colours=palette(runs, settings["colours"]),
        labels=settings["labels"],
        figures=Figures(
            cover={
                name.removeprefix("cover-"): svg
                for name, svg in figures.items()
                if name.startswith("cover-")
            },
            training=figures.get("training"),
            sampling=figures.get("sampling"),
        ),
        sampled={
            folder.name: Sampled(
                json.loads((folder / "statistics.json").read_text(encoding="utf-8")),
                read_pairs(folder / "pairs.parquet"),
            )
            for folder in map(Path, arguments.preferences)
        },
        study=arguments.study,
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        gallery=settings["gallery"],
        failures=settings["failures"],
    )


if __name__ == "__main__":
    ending(main)
