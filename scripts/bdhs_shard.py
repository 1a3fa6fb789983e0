"""Rule bdhs_shard: rejected answers for a part of the pairs."""

from pathlib import Path
from typing import Literal

import torch

from mmpref.cli import run
from mmpref.language.similarity import load_similarity
from mmpref.models import VisionLanguageModel
from mmpref.records.pairs import Pairs, write_pairs
from mmpref.sampling.bdhs import sample_shard
from mmpref.study.preferences import Bdhs


def main(
    settings: Bdhs,
    seed: int,
    model: Path,
    dtype: Literal["float32", "bfloat16"],
    pairs: Path,
    shard: int,
    output: Path,
    encoder: Path | None = None,
) -> None:
    """Write the shard's pairs, with sampled rejected answers.

    Args:
        settings: the study's `bdhs`
        seed: the study's
        model: folder of the model that samples
        dtype: the precision it samples in
        pairs: pairs.parquet with the chosen answers
        shard: the number of the shard
        output: Parquet to write
        encoder: folder of the sentence encoder, where it is not built in
    """
    vlm = VisionLanguageModel.load(model, getattr(torch, dtype))
    # Beside the output, not in it: Snakemake removes outputs before a job starts.
    journal = output.with_suffix(".journal")
    sampled = sample_shard(
        vlm,
        load_similarity(str(encoder or settings.encoder), vlm.device),
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
