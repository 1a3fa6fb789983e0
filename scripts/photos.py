"""Rule photos: photographs as files of many kinds, and pairs about them."""

import argparse

from mmpref.datasets.photos import write_photos

from mmpref.cli import ending


def main() -> None:
    """Parse the arguments and write pairs.jsonl and images/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", required=True, help="JSON Lines that name the images")
    parser.add_argument("--output", required=True, help="folder for pairs.jsonl and images/")
    arguments = parser.parse_args()
    write_photos(arguments.pairs, arguments.output)


if __name__ == "__main__":
    ending(main)
