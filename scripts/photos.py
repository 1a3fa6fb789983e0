"""Rule photos: photographs as files of many kinds, with pairs and questions about them."""

from pathlib import Path

from mmpref.cli import run
from mmpref.records.photos import write_photos


def main(files: tuple[Path, ...], output: Path, crops: int = 0) -> None:
    """Write the files and the images they name.

    Args:
        files: JSON Lines that name the images
        output: folder for the files and images/
        crops: how many parts of each picture to add
    """
    write_photos(files, output, crops)


if __name__ == "__main__":
    run(main)
