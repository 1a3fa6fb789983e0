"""Trains several small runs one after the other; started by the tests through the launcher.

A new process costs five seconds, a small training half a second.
"""

import json
import sys
from pathlib import Path

from mmpref.errors import InputError
from mmpref.logprobs.reference import merge
from mmpref.logprobs.reference_shard import compute_shard
from mmpref.study.runs import Run
from mmpref.training.processes import leave
from mmpref.training.trainer import Files, train

CONFIGURATIONS = Path(__file__).parents[2] / "config" / "deepspeed"


def run_of(objective, **training):
    """The run of a job; its objective looks at crops unless told otherwise."""
    return Run.model_validate(
        {
            "model": "m",
            "preferences": "p",
            "objective": objective,
            "training": {
                "epochs": 2,
                "batch_size": 4,
                "micro_batch_size": 2,
                "learning_rate": 0.01,
                "lora_rank": 4,
                "lora_alpha": 8,
                "dtype": "float32",
                "save_steps": 1000,
                **training,
            },
        }
    )


def files_of(folder, run, original="original.parquet"):
    """The files that the fixture `study` made."""
    stage = run.training.zero_stage
    return Files(
        folder / "model",
        folder / "pairs.parquet",
        (folder / original, folder / "crop_0_20.parquet"),
        CONFIGURATIONS / f"zero{stage}.json",
    )


def compute(output, model, pairs, dtype, batch_size, stored, shards=1):
    """Write a file of reference log-probabilities, through its shards."""
    parts = [output.with_name(f"{output.stem}-shards") / f"{n}.parquet" for n in range(shards)]
    for number, part in enumerate(parts):
        compute_shard(part, model, pairs, dtype, batch_size, stored, number, shards)
    merge(output, parts)


def main():
    folder, jobs = Path(sys.argv[1]), json.loads(sys.argv[2])
    for name, job in jobs.items():
        run = run_of(job.pop("objective", {"name": "mdpo"}), **job.pop("training", {}))
        output = folder / job.pop("output", name)
        try:
            files = files_of(folder / job.pop("study", "."), run, **job)
            train(name, run, 5, files, output)
        except InputError as error:
            output.mkdir(parents=True, exist_ok=True)
            (output / "error.txt").write_text(str(error))
    leave()


if __name__ == "__main__":
    main()
