"""Rule tables: the main table and the differences to the bases."""

import json
from pathlib import Path

from mmpref.cli import run
from mmpref.files import replacing
from mmpref.reporting.tables import markdown, read_results, score_file, summarise


def main(
    scores: tuple[Path, ...],
    seed: int,
    table: Path,
    differences: Path,
    text: Path,
    bases: str = "{}",
    metrics: str = "{}",
    labels: str = "{}",
) -> None:
    """Write the tables.

    Args:
        scores: verdicts, RUN/seedS/BENCHMARK.parquet
        seed: the study's, for the bootstrap
        table: main table to write, CSV
        differences: differences to the bases to write, CSV
        text: both to write as Markdown
        bases: by run the one it is compared with, as JSON
        metrics: metrics by benchmark, as JSON
        labels: labels of runs, as JSON
    """
    results = read_results(score_file(path) for path in scores)
    base_of = json.loads(bases)
    tables = summarise(results, base_of, seed, json.loads(metrics))
    for path, content in ((table, tables.main), (differences, tables.differences)):
        with replacing(path) as temporary:
            content.to_csv(temporary, index=False, float_format="%.6g")
    with replacing(text) as temporary:
        temporary.write_text(markdown(tables, base_of, json.loads(labels)), encoding="utf-8")


if __name__ == "__main__":
    run(main)
