"""Compute log-probabilities under the reference model (rules reference_answers, _degraded)."""

import argparse
from pathlib import Path
from typing import get_args

from mmpref import cli
from mmpref.logprobs.reference import Degradation, compute
from mmpref.study.parts import DegradedImage


def main() -> None:
    """Parse arguments and write one file: of the answers, or of the degraded images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--pairs", type=Path, required=True, help="pairs.parquet")
    parser.add_argument("--output", type=Path, required=True, help="Parquet file to write")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--batch-size", type=int, default=16, help="pairs at a time")
    parser.add_argument("--degraded-image", choices=get_args(DegradedImage))
    parser.add_argument("--seed", type=int, help="the study's seed, with --degraded-image")
    parser.add_argument("--epochs", type=int, help="how many, with --degraded-image")
    arguments = parser.parse_args()
    degradation = None
    if arguments.degraded_image:
        if arguments.seed is None or arguments.epochs is None:
            parser.error("--degraded-image needs --seed and --epochs")
        degradation = Degradation(arguments.degraded_image, arguments.seed, arguments.epochs)
    compute(
        arguments.output,
        arguments.model,
        arguments.pairs,
        arguments.dtype,
        arguments.batch_size,
        degradation,
    )


if __name__ == "__main__":
    cli.ending(main)
