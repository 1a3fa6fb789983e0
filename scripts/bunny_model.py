"""Rule bunny_model: Bunny's checkpoint as a LLaVA."""

from pathlib import Path

from mmpref.cli import run
from mmpref.models.bunny import convert


def main(checkpoint: Path, output: Path) -> None:
    """Write the model folder.

    Args:
        checkpoint: folder of the repository's files
        output: the model folder
    """
    convert(checkpoint, output)


if __name__ == "__main__":
    run(main)
