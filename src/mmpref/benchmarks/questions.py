"""The yes/no questions of a dataset as a benchmark."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mmpref.errors import InputError
from mmpref.study.benchmarks import BenchmarkSource
from mmpref.study.parts import Count, Name

if TYPE_CHECKING:
    from mmpref.records.items import Item


class DatasetQuestions(BenchmarkSource):
    """Yes/no questions of your own: a dataset whose chosen answers begin with yes or no."""

    source: Literal["dataset-yesno"]
    dataset: Name = Field(description="a name under `datasets`")
    max_new_tokens: Count = 16

    kind: ClassVar[str] = "yesno"
    seeded: ClassVar[bool] = False

    @property
    def references(self) -> Mapping[str, tuple[str, str]]:
        """The dataset."""
        return {"dataset": ("datasets", self.dataset)}

    def make_items(self, seed: int, files: Mapping[str, Path]) -> "Iterable[Item]":
        """Return one item a pair, from the file `pairs`.

        Raises InputError when a chosen answer begins with neither.
        """
        from mmpref.records.items import Item
        from mmpref.records.pairs import Pairs

        for pair in Pairs(files["pairs"], require_rejected=False):
            label = re.match(r"(yes|no)\b", pair.chosen, re.IGNORECASE)
            if label is None:
                raise InputError(
                    f"{files['pairs']}: pair {pair.id}: its chosen answer {pair.chosen!r:.40} "
                    "begins with neither yes nor no; keep the pairs that are such questions, or "
                    "write `source: dataset`"
                )
            truth = {"kind": "yesno", "label": label[0].lower()}
            yield Item(pair.id, pair.images, pair.prompt, truth)
