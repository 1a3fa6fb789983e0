"""A preference pair, and a row of a source that may become one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

IMAGE_PLACEHOLDER = "<image>"
"""Where LLaVA-style texts put the image. Tokenizers make it a token that would lack its image."""


@dataclass(frozen=True)
class Pair:
    """Two answers to a question about images, of which the first is preferred.

    `images` are encoded image files, `prompt` and the answers plain text. `rejected` is empty only
    before a sampler has drawn it. `more_rejected` are further rejected answers.
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
