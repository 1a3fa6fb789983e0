"""What every source of preference pairs is."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmpref.study.parts import Part

if TYPE_CHECKING:
    from mmpref.records.rows import Candidate, Quarantined


class Dataset(Part):
    """A source of pairs with its settings, which are its fields; `source` is what a study calls it.

    Adding one is a file in this folder: a class with a `source` of its own.
    """

    @property
    def files(self) -> tuple[str, ...]:
        """The files it reads, for the workflow to watch."""
        return ()

    @abstractmethod
    def rows(self, seed: int, require_rejected: bool) -> "Iterator[Candidate | Quarantined]":
        """Yield its rows, unchecked, in order.

        `seed` is the study's. Without `require_rejected` rows may lack the rejected answer, for a
        sampler to draw it. Raises InputError when a file is missing or cannot be read.
        """
