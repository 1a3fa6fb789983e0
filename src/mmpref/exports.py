"""The commands `mmpref export` and `mmpref export-answers`: what other programs read."""

from pathlib import Path

from mmpref.progress import say
from mmpref.records.export import Format, export_pairs


def export(pairs: Path, /, format: Format, output: Path) -> None:
    """Write preference pairs for another trainer.

    mmpref export results/preferences/mine/pairs.parquet --format llama-factory --output FOLDER

    Args:
        pairs: a pairs.parquet of the workflow
        format: the trainer: trl takes the file as it is, the others JSON lines with images beside
        output: a new folder
    """
    count = export_pairs(pairs, format, output)
    hint = {
        "trl": f'load_dataset("parquet", data_files="{output}/pairs.parquet", split="train")',
        "ms-swift": f"ROOT_IMAGE_DIR={output.resolve()} swift rlhf --dataset {output}/pairs.jsonl",
        "llama-factory": f"dataset_dir: {output}, dataset: {output.resolve().name}",
    }[format]
    say(f"{output}: {count} pairs; read them with: {hint}")
