"""Pairs worked on in parts: every so many-th one, and all of them in their order again."""

from collections.abc import Iterator, Sequence

from mmpref.errors import InputError
from mmpref.records.rows import Pair


def shard_of(pairs: Sequence[Pair], shard: int, shards: int) -> Sequence[Pair]:
    """Return the pairs of a shard, 0 <= `shard` < `shards`: every `shards`-th one."""
    if not 0 <= shard < shards:
        raise ValueError(f"shard {shard} of {shards} does not exist")
    return pairs[shard::shards]


def merge(shards: Sequence[Sequence[Pair]]) -> Iterator[Pair]:
    """Return the pairs of all shards, given in the order of their numbers, in the original order.

    Raises:
        InputError: their lengths are not those of the shards of one list.
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
