"""RLAIF-V: answers compared by open models (Yu et al. 2024)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mmpref.datasets.files import Found, Make, read_rows
from mmpref.datasets.public import FOLDER, PublicDataset
from mmpref.datasets.rlhf_v import embedded
from mmpref.errors import InputError
from mmpref.records.rows import Candidate

FILES = "RLAIF-V-Dataset_*.parquet"


class RLAIFVDataset(PublicDataset):
    """RLAIF-V: 83,132 pairs with their images."""

    source: Literal["rlaif_v"]
    folder: str = Field("resources/benchmarks/rlaif_v", description=FOLDER)

    def rows(self, seed: int, require_rejected: bool) -> Found:
        """Yield the pairs, shard by shard."""
        paths = sorted(Path(self.folder).glob(FILES))
        if not paths:
            raise InputError(f"{self.folder}: has no {FILES}; download RLAIF-V, or correct it")
        for path in paths:
            yield from read_rows(path, self._made(path))

    def _made(self, path: Path) -> Make:
        def made(number: int, row: dict[str, Any]) -> Iterator[Candidate]:
            yield embedded(path, number, row, row, self.source)

        return made
