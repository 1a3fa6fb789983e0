"""Rule merged_model: a model with the adapter of a run in its weights."""

from pathlib import Path
from typing import Literal

import torch

from mmpref.cli import run
from mmpref.models.adapter import merge_adapter
from mmpref.sampling.merged import compare_merged


def main(
    model: Path,
    adapter: Path,
    pairs: Path,
    dtype: Literal["float32", "bfloat16"],
    output: Path,
    comparison: Path,
) -> None:
    """Write the merged model, and how it differs from model and adapter.

    Args:
        model: model folder
        adapter: PEFT adapter of the model
        pairs: pairs.parquet to compare on
        dtype: precision of the merged model
        output: model folder to write
        comparison: JSON file to write
    """
    precision = getattr(torch, dtype)
    merge_adapter(output, model, adapter, precision)
    compare_merged(comparison, output, model, adapter, pairs, precision)


if __name__ == "__main__":
    run(main)
