"""Rule public_benchmark: the items of a benchmark of the papers, with its images."""

import argparse
from pathlib import Path

from mmpref.benchmarks.registry import prepare
from mmpref.cli import ending
from mmpref.records.items import write_items


def main() -> None:
    """Parse the arguments and write the items."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmark", required=True, help="its name")
    parser.add_argument("--prompt", required=True, help="what is asked, with {question} in it")
    parser.add_argument("--sample", type=int, help="how many images, for CHAIR")
    parser.add_argument("--data", type=Path, required=True, help="folder with its files")
    parser.add_argument("--images", type=Path, required=True, help="folder with its images")
    parser.add_argument("--seed", type=int, default=0, help="the study's, for the sample")
    parser.add_argument("--output", required=True, help="items.parquet")
    arguments = parser.parse_args()
    items = prepare(
        arguments.benchmark,
        arguments.data,
        arguments.images,
        prompt=arguments.prompt,
        sample=arguments.sample,
        seed=arguments.seed,
    )
    write_items(arguments.output, items)


if __name__ == "__main__":
    ending(main)
