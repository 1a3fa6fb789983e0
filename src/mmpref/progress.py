"""Progress a person can follow in a terminal, and read later in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Element = TypeVar("Element")

SECONDS_BETWEEN_LINES = 5.0


def say(what: str) -> None:
    """Print one line to standard error, at once."""
    print(what, file=sys.stderr, flush=True)


def track(elements: Iterable[Element], what: str, total: int) -> Iterator[Element]:
    """Yield `elements`, printing `what: done/total, elapsed, about how long` every few seconds."""
    start = last = time.monotonic()
    for done, element in enumerate(elements):
        now = time.monotonic()
        if done and now - last >= SECONDS_BETWEEN_LINES:
            last = now
            left = (now - start) / done * (total - done)
            say(f"{what}: {done}/{total}, {now - start:.0f} s, about {left:.0f} s left")
        yield element
    say(f"{what}: {total} done, {time.monotonic() - start:.0f} s")
