"""Rule dataset_prompts: the prompts of a dataset as a benchmark without ground truth."""

from pathlib import Path

from mmpref.cli import run
from mmpref.records.items import Item, write_items
from mmpref.records.pairs import Pairs


def main(pairs: Path, output: Path) -> None:
    """Write the items.

    Args:
        pairs: pairs.parquet of the dataset
        output: items.parquet
    """
    truth = {"kind": "open"}
    found = Pairs(pairs, require_rejected=False)
    write_items(output, (Item(pair.id, pair.images, pair.prompt, truth) for pair in found))


if __name__ == "__main__":
    run(main)
