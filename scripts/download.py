"""Rule download: public files at the revisions in config/downloads.yaml."""

import argparse

from mmpref.cli import ending
from mmpref.downloads import MIRROR, fetch


def main() -> None:
    """Parse the arguments and fetch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="a name in config/downloads.yaml")
    parser.add_argument("--output", required=True, help="folder for the files and manifest.json")
    parser.add_argument(
        "--mirror", help=f"folder to take files from, instead of the network; default: {MIRROR}"
    )
    arguments = parser.parse_args()
    fetch(arguments.name, arguments.output, arguments.mirror)


if __name__ == "__main__":
    ending(main)
