"""Rule sample_statistics: what a sampling run produced, in numbers."""

import json
from itertools import chain
from pathlib import Path

from mmpref.cli import run
from mmpref.files import replacing
from mmpref.records.pairs import Pairs
from mmpref.sampling.statistics import statistics


def main(shards: list[Path], output: Path) -> None:
    """Write statistics of all sampled pairs, the quarantined ones included.

    Args:
        shards: their files
        output: JSON
    """
    files = (Pairs(shard, require_rejected=False) for shard in shards)
    numbers = statistics(chain.from_iterable(pairs.without_images() for pairs in files))
    with replacing(output) as temporary:
        temporary.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)
