"""Rule score: the verdict on every answer, and the metrics."""

import argparse

from mmpref.cli import run
from mmpref.evaluation.items import read_items
from mmpref.evaluation.scores import read_responses, score, write_scores


def main() -> None:
    """Parse the arguments and write metrics and verdicts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--benchmark", required=True)
    parser.add_argument("--items", required=True, help="the benchmark's items.parquet")
    parser.add_argument("--responses", required=True, help="JSON Lines of answers")
    parser.add_argument("--seed", type=int, required=True, help="the study's, for the bootstrap")
    parser.add_argument("--metrics", required=True, help="JSON to write")
    parser.add_argument("--verdicts", required=True, help="Parquet to write")
    arguments = parser.parse_args()
    scores = score(read_items(arguments.items), read_responses(arguments.responses))
    write_scores(arguments.metrics, arguments.verdicts, scores, arguments.benchmark, arguments.seed)


if __name__ == "__main__":
    run(main)
