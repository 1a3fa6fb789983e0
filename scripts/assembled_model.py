"""Rule assembled_model: a LLaVA around a language model in GGUF."""

import argparse

from mmpref.cli import ending
from mmpref.models.assemble import assemble
from mmpref.study.models import AssembledModel


def main() -> None:
    """Parse the arguments and write the model folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="the model's part of the study, as JSON")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", required=True, help="the model folder")
    arguments = parser.parse_args()
    settings = AssembledModel.model_validate_json(arguments.settings)
    assemble(arguments.output, settings.package, settings.file, arguments.seed)


if __name__ == "__main__":
    ending(main)
