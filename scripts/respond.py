"""Rule respond: a model's answers to a benchmark."""

import argparse
from pathlib import Path

import torch

from mmpref.cli import ending
from mmpref.models.adapter import load_policy
from mmpref.records.items import read_items
from mmpref.sampling.responses import write_responses


def main() -> None:
    """Parse the arguments and write the answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--adapter", help="PEFT adapter of the model")
    parser.add_argument("--dtype", required=True, choices=["float32", "bfloat16"])
    parser.add_argument("--items", required=True, help="the benchmark's items.parquet")
    parser.add_argument("--max-new-tokens", type=int, required=True)
    parser.add_argument("--output", required=True, help="JSON Lines of answers")
    arguments = parser.parse_args()
    items = read_items(arguments.items)
    policy = load_policy(arguments.model, arguments.adapter, getattr(torch, arguments.dtype))
    write_responses(
        arguments.output,
        policy,
        items,
        max_new_tokens=arguments.max_new_tokens,
        what=f"answers {Path(arguments.output).relative_to(Path(arguments.output).parents[2])}",
    )


if __name__ == "__main__":
    ending(main)
