"""Rule local_pairs: a user's own pairs, checked."""

import argparse

from mmpref.cli import run
from mmpref.datasets.local import read_local
from mmpref.preferences import write_valid_pairs
from mmpref.progress import say
from mmpref.study import LocalDataset


def main() -> None:
    """Parse the arguments and write pairs and quarantine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="the dataset's part of the study, JSON")
    parser.add_argument("--rejected-optional", action="store_true", help="a sampler draws them")
    parser.add_argument("--output", required=True, help="pairs.parquet; quarantine goes beside it")
    arguments = parser.parse_args()
    settings = LocalDataset.model_validate_json(arguments.settings)
    required = not arguments.rejected_optional
    rows = read_local(settings.file, settings.images, settings.columns, required)
    kept, quarantined = write_valid_pairs(arguments.output, rows, required)
    say(f"{settings.file}: {kept} pairs kept, {quarantined} rows in quarantine")


if __name__ == "__main__":
    run(main)
