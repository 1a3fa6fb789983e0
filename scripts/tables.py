"""Rule tables: the main table and the differences to the base."""

import argparse
import json
from pathlib import Path

from mmpref.cli import ending
from mmpref.files import replacing
from mmpref.reporting.tables import markdown, read_results, score_file, summarise


def main() -> None:
    """Parse the arguments and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores", nargs="+", required=True, help="RUN/seedS/BENCHMARK.parquet")
    parser.add_argument("--base", required=True, help="the run the others are compared with")
    parser.add_argument("--metrics", default="{}", help="metrics by benchmark, as JSON")
    parser.add_argument("--labels", default="{}", help="labels of runs, as JSON")
    parser.add_argument("--seed", type=int, required=True, help="the study's, for the bootstrap")
    parser.add_argument("--main", required=True, help="CSV to write")
    parser.add_argument("--differences", required=True, help="CSV to write")
    parser.add_argument("--markdown", required=True, help="Markdown to write")
    arguments = parser.parse_args()
    results = read_results(score_file(path) for path in arguments.scores)
    tables = summarise(results, arguments.base, arguments.seed, json.loads(arguments.metrics))
    for path, table in ((arguments.main, tables.main), (arguments.differences, tables.differences)):
        with replacing(path) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
    with replacing(arguments.markdown) as temporary:
        text = markdown(tables, arguments.base, json.loads(arguments.labels))
        Path(temporary).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    ending(main)
