"""Rule dataset: the pairs of a source, checked."""

from pathlib import Path
from typing import Annotated

from pydantic import TypeAdapter

from mmpref.cli import run
from mmpref.datasets.dataset import Dataset
from mmpref.progress import say
from mmpref.study.parts import Part
from mmpref.study.registry import OneOf


def main(settings: str, seed: int, output: Path, rejected_optional: bool = False) -> None:
    """Write the pairs of a source; quarantine.jsonl and dataset.json about them lie beside.

    Args:
        settings: the dataset's part of the study, as JSON
        seed: the study's
        output: pairs.parquet
        rejected_optional: rows may lack the rejected answer, for a sampler draws it
    """
    sources: TypeAdapter[Part] = TypeAdapter(Annotated[Part, OneOf("mmpref.datasets", "source")])
    dataset = sources.validate_json(settings)
    assert isinstance(dataset, Dataset)
    about = dataset.write(output, seed, not rejected_optional)
    skipped = "".join(f", {count} x {reason}" for reason, count in about["skipped"].items())
    say(f"{about['pairs']} pairs kept, {about['quarantined']} rows in quarantine{skipped}")


if __name__ == "__main__":
    run(main)
