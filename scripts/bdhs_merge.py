"""Rule bdhs_merge: the sampled pairs of all shards, checked, and how they came to be."""

import argparse
import json

from mmpref.cli import ending
from mmpref.files import replacing
from mmpref.progress import say
from mmpref.records.pairs import read_pairs, write_valid_pairs
from mmpref.sampling.bdhs import candidates
from mmpref.sampling.shards import merge
from mmpref.sampling.statistics import statistics


def main() -> None:
    """Parse the arguments and write pairs, quarantine and statistics."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", nargs="+", required=True, help="in the order of their numbers")
    parser.add_argument("--output", required=True, help="pairs.parquet; quarantine goes beside it")
    parser.add_argument("--statistics", required=True, help="JSON to write")
    arguments = parser.parse_args()
    pairs = merge([read_pairs(shard, require_rejected=False) for shard in arguments.shards])
    kept, quarantined = write_valid_pairs(arguments.output, candidates(pairs, "sampled answers"))
    with replacing(arguments.statistics) as temporary:
        temporary.write_text(json.dumps(statistics(pairs), indent=2) + "\n", encoding="utf-8")
    say(f"{len(pairs)} answers sampled: {kept} pairs, {quarantined} in quarantine")


if __name__ == "__main__":
    ending(main)
