"""The prompts of a dataset as a benchmark."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mmpref.study.benchmarks import BenchmarkSource
from mmpref.study.parts import Count, Name

if TYPE_CHECKING:
    from mmpref.records.items import Item


class DatasetPrompts(BenchmarkSource):
    """The prompts of a dataset, answered and shown, without a ground truth."""

    source: Literal["dataset"]
    dataset: Name = Field(description="a name under `datasets`")
    max_new_tokens: Count = 80

    kind: ClassVar[str] = "open"
    seeded: ClassVar[bool] = False

    @property
    def references(self) -> Mapping[str, tuple[str, str]]:
        """The dataset."""
        return {"dataset": ("datasets", self.dataset)}

    def make_items(self, seed: int, files: Mapping[str, Path]) -> "Iterable[Item]":
        """Return one item a pair, from the file `pairs`."""
        from mmpref.records.items import Item
        from mmpref.records.pairs import Pairs

        pairs = Pairs(files["pairs"], require_rejected=False)
        return (Item(pair.id, pair.images, pair.prompt, {"kind": "open"}) for pair in pairs)
