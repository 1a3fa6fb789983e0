"""Rule dataset: the pairs of a source, checked."""

import argparse

from mmpref.cli import run
from mmpref.datasets.dataset import Dataset
from mmpref.progress import say
from mmpref.records.pairs import write_valid_pairs
from mmpref.study.registry import kinds


def main() -> None:
    """Parse the arguments and write pairs and quarantine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", required=True, help="the dataset's `source`")
    parser.add_argument("--settings", required=True, help="the dataset's part of the study, JSON")
    parser.add_argument("--seed", type=int, required=True, help="the study's")
    parser.add_argument("--rejected-optional", action="store_true", help="a sampler draws them")
    parser.add_argument("--output", required=True, help="pairs.parquet; quarantine goes beside it")
    arguments = parser.parse_args()
    part = kinds("mmpref.datasets", "source")[arguments.source]
    settings = part.model_validate_json(arguments.settings)
    assert isinstance(settings, Dataset)
    required = not arguments.rejected_optional
    rows = settings.rows(arguments.seed, required)
    kept, quarantined = write_valid_pairs(arguments.output, rows, required)
    say(f"{arguments.source}: {kept} pairs kept, {quarantined} rows in quarantine")


if __name__ == "__main__":
    run(main)
