"""Rule assembled_model: a LLaVA around a language model in GGUF."""

from pathlib import Path

from mmpref.cli import run
from mmpref.models.assemble import assemble
from mmpref.study.models import AssembledModel


def main(settings: AssembledModel, seed: int, output: Path) -> None:
    """Write the model folder.

    Args:
        settings: the model's part of the study, as JSON
        seed: the study's
        output: the model folder
    """
    assemble(output, settings.package, settings.file, seed)


if __name__ == "__main__":
    run(main)
