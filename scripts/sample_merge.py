"""Rule sample_merge: the sampled pairs of all shards, checked."""

from pathlib import Path

from mmpref.cli import run
from mmpref.progress import say
from mmpref.records.pairs import Pairs, write_valid_pairs
from mmpref.records.rows import merge
from mmpref.sampling.rejected import to_check


def main(shards: list[Path], output: Path) -> None:
    """Write the pairs of all shards, and the unusable ones to quarantine.jsonl beside them.

    Args:
        shards: their files, in the order of their numbers
        output: pairs.parquet
    """
    pairs = merge([Pairs(shard, require_rejected=False) for shard in shards])
    kept, quarantined = write_valid_pairs(output, to_check(pairs))
    say(f"{kept + quarantined} answers sampled: {kept} pairs, {quarantined} in quarantine")


if __name__ == "__main__":
    run(main)
