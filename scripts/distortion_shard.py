"""Rule distortion_shard: rejected answers under a noisy image for a part of the pairs."""

from pathlib import Path
from typing import Literal

import torch

from mmpref.cli import run
from mmpref.language.similarity import load_similarity
from mmpref.models import VisionLanguageModel
from mmpref.records.pairs import Pairs, write_pairs
from mmpref.sampling.distortion import distort_shard
from mmpref.study.preferences import Distortion


def main(
    settings: Distortion,
    seed: int,
    model: Path,
    dtype: Literal["float32", "bfloat16"],
    pairs: Path,
    shard: int,
    output: Path,
) -> None:
    """Write the shard's pairs, with the rejected answers of a noisy image.

    Args:
        settings: the study's `distortion`
        seed: the study's
        model: folder of the model that reads the answers
        dtype: the precision it reads in
        pairs: pairs.parquet with the chosen answers
        shard: the number of the shard
        output: Parquet to write
    """
    vlm = VisionLanguageModel.load(model, getattr(torch, dtype))
    # Beside the output, not in it: Snakemake removes outputs before a job starts.
    journal = output.with_suffix(".journal")
    sampled = distort_shard(
        vlm,
        load_similarity(settings.encoder, vlm.device),
        Pairs(pairs, require_rejected=False),
        settings,
        seed,
        journal,
        shard,
        settings.shards,
    )
    write_pairs(output, sampled)
    journal.unlink()


if __name__ == "__main__":
    run(main)
