"""Rule published: published numbers beside the study's own."""

import json
from pathlib import Path

from mmpref.cli import run
from mmpref.files import replacing
from mmpref.reporting.published import beside, markdown
from mmpref.reporting.tables import read_table
from mmpref.study.published import Comparison


def main(table: Path, comparison: Comparison, output: Path, text: Path, labels: str = "{}") -> None:
    """Write the comparison.

    Args:
        table: the main table, CSV
        comparison: what is compared with what, as JSON
        output: table to write, CSV
        text: the same to write as Markdown, with what is not comparable
        labels: labels of runs, as JSON
    """
    rows = beside(read_table(table), comparison)
    with replacing(output) as temporary:
        rows.to_csv(temporary, index=False, float_format="%.6g")
    with replacing(text) as temporary:
        temporary.write_text(markdown(rows, comparison, json.loads(labels)), encoding="utf-8")


if __name__ == "__main__":
    run(main)
