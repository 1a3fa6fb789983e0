"""Rule toy_pairs: preference pairs of the toy world."""

import argparse

from mmpref.cli import run
from mmpref.preferences import write_pairs
from mmpref.study import ToyDataset
from mmpref.toyworld.benchmark import preference_pairs


def main() -> None:
    """Parse the arguments and write the pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="the dataset's part of the study, JSON")
    parser.add_argument("--seed", type=int, required=True, help="the study's")
    parser.add_argument("--output", required=True, help="pairs.parquet")
    arguments = parser.parse_args()
    settings = ToyDataset.model_validate_json(arguments.settings)
    pairs = preference_pairs(arguments.seed, settings.pairs, settings.yesno_share)
    write_pairs(arguments.output, pairs)


if __name__ == "__main__":
    run(main)
