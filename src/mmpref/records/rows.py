"""A preference pair, a row of a source that may become one, and pairs in shards."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmpref.errors import InputError

IMAGE_PLACEHOLDER = "<image>"
"""Where LLaVA-style texts put the image. Tokenizers make it a token that would lack its image."""


@dataclass(frozen=True)
class Pair:
    """Two answers to a question about images (encoded files), of which the first is preferred.

    `rejected` is empty only before a sampler has drawn it.
    """

    id: str
    images: tuple[bytes, ...]
    prompt: str
    chosen: str
    rejected: str
    source: str
    meta: dict[str, Any] = field(default_factory=dict)
    more_rejected: tuple[str, ...] = ()

    @property
    def answers(self) -> dict[str, str]:
        """The answers by name, those that views ask for: chosen, rejected, rejected_2, ..."""
        more = {f"rejected_{n}": text for n, text in enumerate(self.more_rejected, 2)}
        return {"chosen": self.chosen, "rejected": self.rejected, **more}


@dataclass(frozen=True)
class Candidate:
    """A row of a source as it was found: any field may be missing (None) or of a wrong type.

    `file` and `row` (from 1) say where it stands. `images` should be a sequence of encoded image
    files (bytes) or of images in a folder (`ImageFolder.image`), which are read when the row's turn
    comes.
    """

    file: str
    row: int
    id: Any
    images: Any
    prompt: Any
    chosen: Any
    rejected: Any
    source: str
    meta: dict[str, Any] = field(default_factory=dict)
    more_rejected: Any = ()


def candidates(pairs: Iterable[Pair], file: str) -> Iterator[Candidate]:
    """Return pairs to be checked again, as the rows of `file`."""
    return (Candidate(file=file, row=row, **vars(pair)) for row, pair in enumerate(pairs, 1))


@dataclass(frozen=True)
class Quarantined:
    """A row that cannot become a pair, why, and what stood in it (JSON-like).

    What is particular about the row ends the reason in parentheses, so that reasons can be counted.
    """

    file: str
    row: int
    id: str
    field: str
    reason: str
    content: dict[str, Any]


def shard_of(pairs: Sequence[Pair], shard: int, shards: int) -> Sequence[Pair]:
    """Return the pairs of a shard, 0 <= `shard` < `shards`: every `shards`-th one."""
    if not 0 <= shard < shards:
        raise ValueError(f"shard {shard} of {shards} does not exist")
    return pairs[shard::shards]


def merge(shards: Sequence[Sequence[Pair]]) -> Iterator[Pair]:
    """Return the pairs of all shards, given in the order of their numbers, in the original order.

    Raises InputError when their lengths are not those of the shards of one list.
    """
    total = sum(map(len, shards))
    for number, pairs in enumerate(shards):
        expected = len(range(number, total, len(shards)))
        if len(pairs) != expected:
            raise InputError(
                f"shard {number} of {len(shards)} has {len(pairs)} pairs where {expected} of "
                f"{total} are expected: one was sampled from other pairs; sample the shards anew"
            )
    return (shards[i % len(shards)][i // len(shards)] for i in range(total))


@dataclass(frozen=True)
class Skipped:
    """What a source's rules leave out although nothing is wrong with it: counted by reason."""

    reason: str


class RowError(Exception):
    """Something is wrong with a field of a row; the reason is a predicate ("is missing")."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason
