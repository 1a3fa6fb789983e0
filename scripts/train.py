"""Rule train: train a run; started by mmpref.training.launch, or alone for one process."""

from pathlib import Path

from mmpref.cli import run as call
from mmpref.study.runs import Run
from mmpref.training.processes import leave
from mmpref.training.trainer import Files, train


def main(
    name: str,
    run: Run,
    seed: int,
    model: Path,
    pairs: Path,
    reference: list[Path],
    deepspeed: Path,
    output: Path,
) -> None:
    """Train a run, or continue it after its last checkpoint.

    Args:
        name: of the run
        run: its part of the study, as JSON
        seed: of this training
        model: folder of the model
        pairs: pairs.parquet
        reference: files with the reference log-probabilities, one for each image
        deepspeed: DeepSpeed's configuration
        output: folder of the run and seed
    """
    train(name, run, seed, Files(model, pairs, tuple(reference), deepspeed), output)
    leave()


if __name__ == "__main__":
    call(main)
