"""Rule bunny_checkpoint: Bunny's files from the hub, as they are there."""

from pathlib import Path

from mmpref.cli import run
from mmpref.hub import fetch_model
from mmpref.study.models import BUNNY


def main(repository: str, revision: str, output: Path) -> None:
    """Write the folder of the checkpoint.

    Args:
        repository: OWNER/NAME
        revision: a commit
        output: folder to write
    """
    fetch_model(repository, revision, output, [BUNNY])


if __name__ == "__main__":
    run(main)
