"""Rule reference_shard: log-probabilities under the reference model, of a part of the pairs."""

from pathlib import Path
from typing import Literal

from mmpref.cli import run
from mmpref.logprobs.reference import compute_shard
from mmpref.study.reference import Stored


def main(
    model: Path,
    pairs: Path,
    dtype: Literal["float32", "bfloat16"],
    batch_size: int,
    stored: Stored,
    shard: int,
    shards: int,
    output: Path,
) -> None:
    """Write what the reference model says of the answers of a shard's pairs under one image.

    Args:
        model: folder of the reference model
        pairs: pairs.parquet
        dtype: precision
        batch_size: pairs at a time
        stored: what the file is to hold, as JSON
        shard: number of the shard, from 0
        shards: how many there are
        output: Parquet file to write
    """
    compute_shard(output, model, pairs, dtype, batch_size, stored, shard, shards)


if __name__ == "__main__":
    run(main)
