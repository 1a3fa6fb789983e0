"""Rule hub_dataset: files of a dataset of the hub at a pinned revision."""

from pathlib import Path

from mmpref.cli import run
from mmpref.hub import fetch_dataset


def main(repository: str, revision: str, files: tuple[str, ...], output: Path) -> None:
    """Write the folder of the files.

    Args:
        repository: OWNER/NAME
        revision: a commit
        files: paths in the repository, or patterns of them
        output: the folder
    """
    fetch_dataset(repository, revision, files, output)


if __name__ == "__main__":
    run(main)
