"""The command `mmpref`, without Snakemake or a clone."""

from mmpref import cli
from mmpref.commands import score
from mmpref.exports import export, export_answers
from mmpref.fetching import download


def main() -> None:
    """Run the command."""
    cli.run(
        {
            "score": score,
            "download": download,
            "export": export,
            "export-answers": export_answers,
        }
    )


if __name__ == "__main__":
    main()
