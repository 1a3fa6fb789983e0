"""What scorers need besides an item and its response."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmpref.scoring.judge import Reply


@dataclass(frozen=True)
class Resources:
    """Word lists, options and judge replies; each scorer says which of them it uses.

    `folder` holds the benchmark's data files, as downloaded. `similarity` is AMBER's provider
    (`exact`, `embeddings` or `spacy`). `replies` are the judge's, by item id, in the order they
    came; `judge_runs` says how often each response is judged. With `judge` false there is none, and
    a scorer that can do without says so in the names of its metrics.
    """

    folder: Path | None = None
    similarity: str = "exact"
    judge: bool = False
    judge_runs: int = 1
    replies: Mapping[str, Sequence[Reply]] = field(default_factory=dict)
