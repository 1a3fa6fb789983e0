"""The prompts of a dataset as a benchmark."""

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


class DatasetPrompts(BenchmarkSource):
    """The prompts of a dataset, answered and shown; or its yes/no questions, scored."""

    source: Literal["dataset"]
    dataset: Name = Field(description="a name under `datasets`")
    yesno: bool = Field(
        False,
        description="hold answers against the chosen ones, each of which begins with yes or no",
    )
    max_new_tokens: Count = 80

    seeded: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        """Questions with a known answer, or prompts without."""
        return "yesno" if self.yesno else "open"

    @property
    def references(self) -> Mapping[str, tuple[str, str]]:
        """The dataset."""
        return {"dataset": ("datasets", self.dataset)}

    def make_items(self, seed: int, files: Mapping[str, Path]) -> "Iterable[Item]":
        """Return one item a pair, from the file `pairs`.

        Raises InputError when a chosen answer should begin with yes or no, and does not.
        """
        from mmpref.records.items import Item
        from mmpref.records.pairs import Pairs

        for pair in Pairs(files["pairs"], require_rejected=False):
            truth = {"kind": self.kind}
            if self.yesno:
                label = re.match(r"(yes|no)\b", pair.chosen, re.IGNORECASE)
                if label is None:
                    raise InputError(
                        f"{files['pairs']}: pair {pair.id}: chosen answer {pair.chosen!r:.40} does "
                        "not begin with yes or no; take such pairs out, or leave out `yesno`"
                    )
                truth["label"] = label[0].lower()
            yield Item(pair.id, pair.images, pair.prompt, truth)
