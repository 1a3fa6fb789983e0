"""Rule public_benchmark: the items of a benchmark of the papers, with its images."""

import argparse
from pathlib import Path

from mmpref.cli import run
from mmpref.evaluation.benchmarks import prepare
from mmpref.evaluation.items import write_items
from mmpref.study import PublicBenchmark


def main() -> None:
    """Parse the arguments and write the items."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="the benchmark's part of the study, JSON")
    parser.add_argument("--data", type=Path, required=True, help="folder with its files")
    parser.add_argument("--images", type=Path, required=True, help="folder with its images")
    parser.add_argument("--seed", type=int, required=True, help="the study's")
    parser.add_argument("--output", required=True, help="items.parquet")
    arguments = parser.parse_args()
    settings = PublicBenchmark.model_validate_json(arguments.settings)
    write_items(
        arguments.output, prepare(settings, arguments.data, arguments.images, arguments.seed)
    )


if __name__ == "__main__":
    run(main)
