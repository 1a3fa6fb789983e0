"""A part of a dataset, drawn by the ids of its pairs."""

import heapq
from collections.abc import Callable, Iterator

from mmpref.errors import InputError
from mmpref.randomness import seed_of
from mmpref.records.pairs import validate
from mmpref.records.rows import Candidate, Pair, Quarantined


def drawn(
    rows: Callable[[], Iterator[Candidate | Quarantined]],
    size: int,
    seed: int,
    require_rejected: bool = True,
) -> Iterator[Candidate | Quarantined]:
    """Yield the rows of `size` valid pairs, and what is wrong with rows drawn before the last.

    Every id has a number that only it and `seed` decide; those with the smallest are drawn. So the
    order of the rows does not matter, a larger subset holds a smaller one, and rows that turn out
    not to be pairs are made up for. `rows` is read twice; a row that cannot be drawn is not
    checked, and its image not opened. `require_rejected` is that of `validate`.

    Raises InputError when there are fewer valid pairs.
    """
    largest: list[int] = []  # the numbers drawn so far, negated: the largest comes first
    known: set[int] = set()
    for row in rows():
        if isinstance(row, Quarantined):
            continue
        number = _number(row, seed)
        if number in known or (len(largest) == size and number > -largest[0]):
            continue
        (result,) = validate([row], require_rejected)
        if isinstance(result, Pair):
            known.add(number)
            heapq.heappush(largest, -number)
            if len(largest) > size:
                heapq.heappop(largest)
    if len(largest) < size:
        raise InputError(
            f"The dataset has {len(largest)} valid pairs, fewer than its subset of {size}; lower "
            "`subset`, or leave it out to see in the quarantine what is wrong with the other rows"
        )
    for row in rows():
        if isinstance(row, Quarantined) or _number(row, seed) <= -largest[0]:
            yield row


def _number(row: Candidate, seed: int) -> int:
    return seed_of(seed, "subset", str(row.id).strip())
