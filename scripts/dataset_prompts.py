"""Rule dataset_prompts: the prompts of a dataset as a benchmark without ground truth."""

import argparse

from mmpref.cli import ending
from mmpref.records.items import Item, write_items
from mmpref.records.pairs import read_pairs


def main() -> None:
    """Parse the arguments and write the items."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", required=True, help="pairs.parquet of the dataset")
    parser.add_argument("--output", required=True, help="items.parquet")
    arguments = parser.parse_args()
    pairs = read_pairs(arguments.pairs, require_rejected=False)
    write_items(
        arguments.output,
        [Item(pair.id, pair.images, pair.prompt, {"kind": "open"}) for pair in pairs],
    )


if __name__ == "__main__":
    ending(main)
