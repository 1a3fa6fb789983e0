"""Train a run (rule train); started by mmpref.training.launch, or alone for one process."""

import argparse
from pathlib import Path

from mmpref import cli
from mmpref.study.runs import Run
from mmpref.training.processes import leave
from mmpref.training.trainer import Files, train


def main() -> None:
    """Parse arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="name of the run")
    parser.add_argument("--run", type=Run.model_validate_json, required=True, help="as JSON")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--pairs", type=Path, required=True, help="pairs.parquet")
    parser.add_argument("--answers", type=Path, required=True, help="reference of the answers")
    parser.add_argument("--degraded", type=Path, help="reference of the degraded images")
    parser.add_argument("--deepspeed", type=Path, required=True, help="DeepSpeed's configuration")
    parser.add_argument("--output", type=Path, required=True, help="folder of the run and seed")
    arguments = parser.parse_args()
    files = Files(
        arguments.model,
        arguments.pairs,
        arguments.answers,
        arguments.degraded,
        arguments.deepspeed,
    )
    train(arguments.name, arguments.run, arguments.seed, files, arguments.output)
    leave()


if __name__ == "__main__":
    cli.ending(main)
