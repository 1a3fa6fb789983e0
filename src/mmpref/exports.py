"""The commands `mmpref export` and `mmpref export-answers`: what other programs read."""

from pathlib import Path
from typing import Literal

from mmpref.benchmarks.benchmark import named
from mmpref.commands import items_and_responses
from mmpref.progress import say


def export(
    pairs: Path, /, format: Literal["trl", "ms-swift", "llama-factory"], output: Path
) -> None:
    """Write preference pairs for another trainer.

    mmpref export results/preferences/mine/pairs.parquet --format llama-factory --output FOLDER

    Args:
        pairs: a pairs.parquet of the workflow
        format: the trainer: trl takes the file as it is, the others JSON lines with images beside
        output: a new folder
    """
    # Here, as below, so that `mmpref --help` need not wait for pandas.
    from mmpref.records.export import export_pairs

    count = export_pairs(pairs, format, output)
    hint = {
        "trl": f'load_dataset("parquet", data_files="{output}/pairs.parquet", split="train")',
        "ms-swift": f"ROOT_IMAGE_DIR={output.resolve()} swift rlhf --dataset {output}/pairs.jsonl",
        "llama-factory": f"dataset_dir: {output}, dataset: {output.resolve().name}",
    }[format]
    say(f"{output}: {count} pairs; read them with: {hint}")


def export_answers(
    benchmark: str,
    /,
    answers: Path,
    data: Path,
    format: Literal["vlmevalkit-tsv", "vlmevalkit-json", "lmms-eval"],
    model: str,
    output: Path,
) -> None:
    """Write answers to a benchmark as a file of VLMEvalKit or lmms-eval.

    mmpref export-answers amber --answers FILE --data D --format lmms-eval --model NAME --output F

    Args:
        benchmark: its name, as in a study
        answers: as for mmpref score
        data: folder with the benchmark's files
        format: vlmevalkit-tsv and -json are for yes/no questions (POPE, AMBER)
        model: what the file calls the model
        output: folder for the file
    """
    from mmpref.scoring import harnesses
    from mmpref.scoring.verdicts import paired

    items, responses = items_and_responses(named(benchmark), data, answers)
    given = paired(items, responses, answers)
    path = harnesses.export_responses(given, benchmark, format, model, output)
    say(f"{path}: from {len(given)} answers")
