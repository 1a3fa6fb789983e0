"""Rule hub_model: a model of the hub at a pinned revision."""

from pathlib import Path

from mmpref.cli import run
from mmpref.hub import fetch_model


def main(repository: str, revision: str, output: Path) -> None:
    """Write the model folder.

    Args:
        repository: OWNER/NAME
        revision: a commit
        output: the model folder
    """
    fetch_model(repository, revision, output)


if __name__ == "__main__":
    run(main)
