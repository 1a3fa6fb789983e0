"""Benchmarks of the toy world: new scenes to describe, or to be asked about."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mmpref.study.benchmarks import BenchmarkSource
from mmpref.study.parts import Count

if TYPE_CHECKING:
    from mmpref.records.items import Item


class ToyCaptions(BenchmarkSource):
    """Captions of new toy scenes: CHAIR, Cover, hallucination rate, length."""

    source: Literal["toyworld-captions"]
    split: Literal["validation", "test"] = "test"
    items: Count = 300
    max_new_tokens: Count = 80

    kind: ClassVar[str] = "caption"

    def make_items(self, seed: int, files: Mapping[str, Path]) -> "Iterable[Item]":
        """Return one item a scene."""
        from mmpref.toyworld.benchmark import caption_items

        return caption_items(seed, self.split, self.items)


class ToyYesno(BenchmarkSource):
    """POPE-style questions about new toy scenes: random, popular, adversarial."""

    source: Literal["toyworld-yesno"]
    split: Literal["validation", "test"] = "test"
    items: Count = Field(100, description="questions per setting")
    max_new_tokens: Count = 16

    kind: ClassVar[str] = "yesno"

    def make_items(self, seed: int, files: Mapping[str, Path]) -> "list[Item]":
        """Return the questions, setting by setting."""
        from mmpref.toyworld.benchmark import yesno_items

        return yesno_items(seed, self.split, self.items)
