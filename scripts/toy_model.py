"""Rule toy_model: pretrain the toy world's model."""

import argparse

import torch

from mmpref.cli import ending
from mmpref.study.models import ToyModel
from mmpref.toyworld.pretrain import pretrain


def main() -> None:
    """Parse the arguments and write the model folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="the model's part of the study, as JSON")
    parser.add_argument("--seed", type=int, required=True, help="the study's")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--output", required=True, help="the model folder")
    arguments = parser.parse_args()
    settings = ToyModel.model_validate_json(arguments.settings)
    torch.set_num_threads(arguments.threads)
    pretrain(
        arguments.output,
        seed=arguments.seed,
        scenes=settings.scenes,
        vision_steps=settings.vision_steps,
        steps=settings.steps,
        bias=settings.biased_captions,
    )


if __name__ == "__main__":
    ending(main)
