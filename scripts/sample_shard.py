"""Rule sample_shard: rejected answers for a part of the pairs."""

from importlib import import_module
from pathlib import Path
from typing import Literal

import torch

from mmpref.cli import run
from mmpref.language.similarity import load_similarity
from mmpref.models import VisionLanguageModel
from mmpref.records.pairs import Pairs, write_pairs
from mmpref.study.preferences import Preferences


def main(
    settings: Preferences,
    seed: int,
    model: Path,
    dtype: Literal["float32", "bfloat16"],
    pairs: Path,
    shard: int,
    output: Path,
    encoder: Path | None = None,
) -> None:
    """Write the shard's pairs, with rejected answers that a model makes.

    Args:
        settings: an entry of the study's `preferences` that has a sampler
        seed: the study's
        model: folder of the model
        dtype: the precision it computes in
        pairs: pairs.parquet with the chosen answers
        shard: the number of the shard
        output: Parquet to write
        encoder: folder of the sentence encoder, where it is not built in
    """
    sampler = settings.sampler
    assert sampler
    vlm = VisionLanguageModel.load(model, getattr(torch, dtype))
    # Beside the output, not in it: Snakemake removes outputs before a job starts.
    journal = output.with_suffix(".journal")
    # By name: an edit of one sampler is none of the other's.
    sampled = import_module(f"mmpref.sampling.{settings.sampler_name}").sample_shard(
        vlm,
        load_similarity(str(encoder or sampler.encoder), vlm.device),
        Pairs(pairs, require_rejected=False),
        sampler,
        seed,
        journal,
        shard,
        sampler.shards,
    )
    write_pairs(output, sampled)
    journal.unlink()


if __name__ == "__main__":
    run(main)
