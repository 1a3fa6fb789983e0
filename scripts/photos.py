"""Rule photos: photographs as files of many kinds, and pairs about them."""

from pathlib import Path

from mmpref.cli import run
from mmpref.records.photos import write_photos


def main(pairs: Path, output: Path) -> None:
    """Write pairs.jsonl and the images it names.

    Args:
        pairs: JSON Lines that name the images
        output: folder for pairs.jsonl and images/
    """
    write_photos(pairs, output)


if __name__ == "__main__":
    run(main)
