"""Rule reference: the reference log-probabilities of all shards in one file."""

from pathlib import Path

from mmpref.cli import run
from mmpref.logprobs.reference import merge


def main(shards: list[Path], output: Path) -> None:
    """Write what the shards hold as one file.

    Args:
        shards: files of rule reference_shard, in the order of their numbers
        output: Parquet file to write
    """
    merge(output, shards)


if __name__ == "__main__":
    run(main)
