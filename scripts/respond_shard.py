"""Rule respond_shard: a model's answers to a part of a benchmark."""

from pathlib import Path
from typing import Literal

import torch

from mmpref.cli import run
from mmpref.models.adapter import load_policy
from mmpref.records.items import Items
from mmpref.sampling.responses import write_responses
from mmpref.study.benchmarks import Responses


def main(
    settings: Responses,
    model: Path,
    dtype: Literal["float32", "bfloat16"],
    items: Path,
    max_new_tokens: int,
    shard: int,
    output: Path,
    adapter: Path | None = None,
) -> None:
    """Write the answers to a part of the items.

    Args:
        settings: the study's `responses`
        model: model folder
        dtype: the precision it answers in
        items: the benchmark's items.parquet
        max_new_tokens: limit of an answer, in tokens
        shard: the number of the shard
        output: JSON Lines of answers
        adapter: PEFT adapter of the model; none for the model as it is
    """
    # Beside the output, not in it: Snakemake removes outputs before a job starts.
    journal = output.with_suffix(".journal")
    write_responses(
        output,
        load_policy(model, adapter, getattr(torch, dtype)),
        Items(items),
        max_new_tokens=max_new_tokens,
        journal=journal,
        batch_size=settings.batch_size,
        shard=shard,
        shards=settings.shards,
        what=f"answers {'/'.join(output.with_suffix('').parts[-5:])}",
    )
    journal.unlink()


if __name__ == "__main__":
    run(main)
