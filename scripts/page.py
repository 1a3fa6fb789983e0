"""Rule page: the report, one HTML file."""

import importlib.metadata
import json
from pathlib import Path

import yaml

from mmpref.cli import run
from mmpref.records.items import Items
from mmpref.records.pairs import Pairs
from mmpref.reporting.figures import palette
from mmpref.reporting.page import Figures, Sampled, write_page
from mmpref.reporting.sources import public, sources_of
from mmpref.reporting.tables import Tables, read_results, read_table, score_file
from mmpref.study.origins import ModelOrigin
from mmpref.study.published import Comparison
from mmpref.study.report import Report

PACKAGES = ("snakemake", "pandas", "matplotlib", "pillow")


def main(
    scores: tuple[Path, ...],
    items: tuple[Path, ...],
    table: Path,
    differences: Path,
    figures: Path,
    settings: Report,
    study: str,
    name: str,
    seed: int,
    output: Path,
    bases: str = "{}",
    preferences: tuple[Path, ...] = (),
    trained: tuple[Path, ...] = (),
    datasets: tuple[Path, ...] = (),
    models: str = "[]",
    benchmarks: str = "[]",
    published: Path | None = None,
    comparison: str = "",
) -> None:
    """Write the report page.

    Args:
        scores: verdicts, RUN/seedS/BENCHMARK.parquet
        items: of the benchmarks, BENCHMARK/items.parquet
        table: the main table, CSV
        differences: the differences to the base, CSV
        figures: folder of SVG files
        settings: the study's `report`, as JSON
        study: the resolved study, as YAML
        name: of the study
        seed: the study's
        output: HTML to write
        bases: by run the one it is compared with, as JSON
        preferences: folders of sampled pairs
        trained: a run.json of each trained run
        datasets: dataset.json of each dataset that is used
        models: what the study knows of its models, as JSON
        benchmarks: the downloads that benchmarks are made from, as JSON
        published: published values beside own ones, CSV
        comparison: what is said about them, as JSON
    """
    results = read_results(score_file(path) for path in scores)
    runs = list(dict.fromkeys(run for benchmark in results.values() for run in benchmark))
    pictures = {path.stem: path.read_text(encoding="utf-8") for path in figures.glob("*.svg")}
    facts = (json.loads(path.read_text(encoding="utf-8")) for path in trained)
    pairs = {fact["name"]: fact["pairs"] for fact in facts}
    write_page(
        output,
        title=settings.title or name,
        seed=seed,
        bases=json.loads(bases),
        results=results,
        tables=Tables(read_table(table), read_table(differences)),
        items={path.parts[-2]: Items(path) for path in items},
        colours=palette(runs, settings.colours),
        labels=settings.labels,
        figures=Figures(
            cover={
                picture.removeprefix("cover-"): pictures[picture]
                for picture in sorted(pictures)
                if picture.startswith("cover-")
            },
            training=[pictures[name] for name in sorted(pictures) if name.startswith("training")],
            sampling=[pictures[name] for name in sorted(pictures) if name.startswith("sampling")],
        ),
        sampled={
            folder.name: Sampled(
                json.loads((folder / "statistics.json").read_text(encoding="utf-8")),
                Pairs(folder / "pairs.parquet"),
            )
            for folder in preferences
        },
        published=(read_table(published), Comparison.model_validate_json(comparison))
        if published
        else None,
        kept_out={name: counts for name, counts in pairs.items() if counts["kept_out"]},
        sources=sources_of(
            [ModelOrigin(**one) for one in json.loads(models)], json.loads(benchmarks), datasets
        ),
        study=yaml.safe_dump(public(yaml.safe_load(study)), sort_keys=False),
        versions={package: importlib.metadata.version(package) for package in PACKAGES},
        gallery=settings.gallery,
        failures=settings.failures,
    )


if __name__ == "__main__":
    run(main)
