"""Rule toy_benchmark: captions or yes/no questions about new scenes of the toy world."""

import argparse

from pydantic import TypeAdapter

from mmpref.cli import ending
from mmpref.records.items import write_items
from mmpref.study.benchmarks import ToyCaptions, ToyYesno
from mmpref.toyworld.benchmark import caption_items, yesno_items


def main() -> None:
    """Parse the arguments and write the items."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="the benchmark's part of the study, JSON")
    parser.add_argument("--seed", type=int, required=True, help="the study's")
    parser.add_argument("--output", required=True, help="items.parquet")
    arguments = parser.parse_args()
    kinds: TypeAdapter[ToyCaptions | ToyYesno] = TypeAdapter(ToyCaptions | ToyYesno)
    settings = kinds.validate_json(arguments.settings)
    make = caption_items if isinstance(settings, ToyCaptions) else yesno_items
    write_items(arguments.output, make(arguments.seed, settings.split, settings.items))


if __name__ == "__main__":
    ending(main)
