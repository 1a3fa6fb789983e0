"""The command `mmpref`, without Snakemake or a clone."""

from mmpref import cli
from mmpref.commands import download, score
from mmpref.exports import export


def main() -> None:
    """Run the command."""
    cli.run({"score": score, "download": download, "export": export})


if __name__ == "__main__":
    main()
