"""Rule bdhs_shard: rejected answers for a part of the pairs."""

import argparse
from pathlib import Path

import torch

from mmpref.cli import ending
from mmpref.language.similarity import load_similarity
from mmpref.models import VisionLanguageModel
from mmpref.records.pairs import read_pairs, write_pairs
from mmpref.sampling.bdhs import sample_shard
from mmpref.study.preferences import Bdhs


def main() -> None:
    """Parse the arguments and write the shard's pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="the study's `bdhs`, as JSON")
    parser.add_argument("--seed", type=int, required=True, help="the study's")
    parser.add_argument("--model", required=True, help="folder of the model that samples")
    parser.add_argument("--dtype", required=True, choices=["float32", "bfloat16"])
    parser.add_argument("--pairs", required=True, help="pairs.parquet with the chosen answers")
    parser.add_argument("--shard", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, help="Parquet to write")
    arguments = parser.parse_args()
    settings = Bdhs.model_validate_json(arguments.settings)
    pairs = read_pairs(arguments.pairs, require_rejected=False)
    vlm = VisionLanguageModel.load(arguments.model, getattr(torch, arguments.dtype))
    # Beside the output, not in it: Snakemake removes outputs before a job starts.
    journal = arguments.output.with_suffix(".journal")
    sampled = sample_shard(
        vlm,
        load_similarity(settings.encoder, vlm.device),
        pairs,
        settings,
        arguments.seed,
        journal,
        arguments.shard,
        settings.shards,
    )
    write_pairs(arguments.output, sampled)
    journal.unlink()


if __name__ == "__main__":
    ending(main)
