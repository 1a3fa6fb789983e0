"""RLHF-V: answers whose hallucinated parts people corrected (Yu et al. 2023)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mmpref.datasets.files import Found, content_id, read_rows
from mmpref.datasets.public import FOLDER, PublicDataset, question_of
from mmpref.records.rows import Candidate, RowError

FILE = "RLHF-V-Dataset.parquet"
FURTHER = ("ds_name", "idx", "image_path", "origin_dataset", "origin_split")
"""Columns that are kept as `meta` where a version has them."""


class RLHFVDataset(PublicDataset):
    """RLHF-V: 5,733 corrected answers against the answers of a model."""

    source: Literal["rlhf_v"]
    folder: str = Field("resources/benchmarks/rlhf_v", description=FOLDER)

    def rows(self, seed: int, require_rejected: bool) -> Found:
        """Yield the pairs. The texts are JSON in the column `text`, or columns of their own."""
        path = Path(self.folder, FILE)

        def made(number: int, row: dict[str, Any]) -> Iterator[Candidate]:
            yield embedded(path, number, row, _texts(row), self.source)

        return read_rows(path, made)


def _texts(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("text") is None:
        return row
    try:
        texts = json.loads(row["text"])
    except (ValueError, TypeError) as error:
        raise RowError("text", f"is not JSON ({error})") from None
    if not isinstance(texts, dict):
        raise RowError("text", "is not a JSON object with question, chosen and rejected")
    return texts


def embedded(
    path: Path, number: int, row: dict[str, Any], texts: dict[str, Any], source: str
) -> Candidate:
    """Return the pair of a row of RLHF-V or RLAIF-V, which holds its image itself."""
    image = row.get("image")
    if not isinstance(image, dict) or not isinstance(image.get("bytes"), bytes):
        raise RowError("image", "is missing" if image is None else "has no bytes")
    question, chosen, rejected = (texts.get(name) for name in ("question", "chosen", "rejected"))
    return Candidate(
        file=str(path),
        row=number,
        id=content_id(question, chosen, rejected, image["bytes"]),
        images=[image["bytes"]],
        prompt=question_of(question),
        chosen=chosen,
        rejected=rejected,
        source=source,
        meta={name: row[name] for name in FURTHER if row.get(name) is not None},
    )
