"""Preference pairs of the toy world."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mmpref.datasets.dataset import Dataset
from mmpref.study.parts import Count, Share

if TYPE_CHECKING:
    from mmpref.records.rows import Candidate


class ToyDataset(Dataset):
    """Pairs of the toy world: a true caption, and the same with one object that is not there."""

    source: Literal["toyworld"]
    pairs: Count = Field(description="how many pairs")
    yesno_share: Share = Field(0.1, description="share of pairs that are yes/no questions")

    def rows(self, seed: int, require_rejected: bool) -> "Iterator[Candidate]":
        """Yield the pairs; every one has a rejected answer."""
        from mmpref.records.rows import candidates
        from mmpref.toyworld.benchmark import preference_pairs

        return candidates(preference_pairs(seed, self.pairs, self.yesno_share), "toyworld")
