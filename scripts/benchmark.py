"""Rule benchmark: the items of a benchmark, from wherever the study says."""

import json
from pathlib import Path

from mmpref.cli import run
from mmpref.records.items import write_items
from mmpref.study.benchmarks import PACKAGE, BenchmarkSource
from mmpref.study.registry import kinds


def main(
    settings: str,
    output: Path,
    seed: int = 0,
    pairs: Path | None = None,
    data: Path | None = None,
    images: Path | None = None,
) -> None:
    """Write the items of a benchmark.

    Args:
        settings: the benchmark's part of the study that decides about the items, as JSON
        output: items.parquet
        seed: the study's, where the items depend on it
        pairs: pairs.parquet of a dataset whose prompts are the items
        data: folder with a public benchmark's files
        images: folder with its images
    """
    given = json.loads(settings)
    # The study has checked the whole part; of what is given here a judge may be missing.
    source = kinds(PACKAGE, "source")[given["source"]].model_construct(**given)
    assert isinstance(source, BenchmarkSource)
    files = {"pairs": pairs, "data": data, "images": images}
    there = {name: path for name, path in files.items() if path}
    write_items(output, source.make_items(seed, there))


if __name__ == "__main__":
    run(main)
