"""Rule toy_model: pretrain the toy world's model."""

from pathlib import Path

import torch

from mmpref.cli import run
from mmpref.study.models import ToyModel
from mmpref.toyworld.pretrain import pretrain


def main(settings: ToyModel, seed: int, threads: int, output: Path) -> None:
    """Write the model folder.

    Args:
        settings: the model's part of the study, as JSON
        seed: the study's
        threads: of the processor
        output: the model folder
    """
    torch.set_num_threads(threads)
    pretrain(
        output,
        seed=seed,
        scenes=settings.scenes,
        vision_steps=settings.vision_steps,
        steps=settings.steps,
        bias=settings.biased_captions,
    )


if __name__ == "__main__":
    run(main)
