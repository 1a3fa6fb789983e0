"""Rule pairs_card: the dataset card of preference pairs."""

import json
from pathlib import Path

from mmpref.cli import run
from mmpref.files import replacing
from mmpref.reporting.cards import Recipe, pairs_card
from mmpref.reporting.sources import data_sources, file_source, model_source
from mmpref.study.origins import ModelOrigin


def main(
    pairs: Path,
    preferences: str,
    recipe: str,
    dataset: Path,
    dataset_name: str,
    version: str,
    output: Path,
    sampler: str = "",
) -> None:
    """Write the card.

    Args:
        pairs: pairs.parquet
        preferences: what the study calls them
        recipe: how they were made, as JSON
        dataset: pairs.parquet of the dataset they were made from
        dataset_name: what the study calls it
        version: of mmpref
        output: README.md to write
        sampler: the model that made the rejected answers, as JSON
    """
    sources = [
        *data_sources(dataset, dataset_name),
        *([model_source(ModelOrigin.model_validate_json(sampler))] if sampler else []),
        file_source("pairs", pairs),
    ]
    card = pairs_card(pairs, sources, Recipe(preferences, json.loads(recipe)), version)
    with replacing(output) as temporary:
        temporary.write_text(card, encoding="utf-8")


if __name__ == "__main__":
    run(main)
