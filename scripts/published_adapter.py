"""Rule published_adapter: the adapter of a run with its card."""

import json
from pathlib import Path

from mmpref.cli import run as call
from mmpref.reporting.cards import Recipe, write_adapter
from mmpref.reporting.sources import data_sources, file_source, model_source
from mmpref.reporting.tables import read_table
from mmpref.study.origins import ModelOrigin


def main(
    model: ModelOrigin,
    pairs: Path,
    preferences: str,
    recipe: str,
    dataset: Path,
    dataset_name: str,
    adapter: Path,
    run: Path,
    version: str,
    output: Path,
    base_run: str | None = None,
    table: Path | None = None,
    sampler: str = "",
) -> None:
    """Write the folder to publish.

    Args:
        model: the model, as JSON
        pairs: pairs.parquet that the run was trained on
        preferences: what the study calls them
        recipe: how they were made, as JSON
        dataset: pairs.parquet of the dataset they were made from
        dataset_name: what the study calls it
        adapter: PEFT adapter of the run
        run: run.json beside it
        version: of mmpref
        output: folder to write
        base_run: the run that this one is compared with
        table: main table of the study, CSV; none where it scores nothing
        sampler: the model that made the rejected answers, as JSON
    """
    sources = [
        model_source(model),
        *data_sources(dataset, dataset_name),
        *([model_source(ModelOrigin.model_validate_json(sampler))] if sampler else []),
        file_source("pairs", pairs),
    ]
    write_adapter(
        output,
        adapter,
        json.loads(run.read_text(encoding="utf-8")),
        sources,
        Recipe(preferences, json.loads(recipe)),
        version,
        None if table is None else read_table(table),
        base_run,
    )


if __name__ == "__main__":
    call(main)
