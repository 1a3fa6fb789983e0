"""Answers about which nothing is known to be true: only their form is measured."""

import re
from typing import Any

from mmpref.records.items import Item
from mmpref.scoring.metric import Metric, share
from mmpref.scoring.resources import Resources

_WORD = re.compile(r"\w+(?:['’-]\w+)*")

_METRICS = {
    "words": share("words", "items", None, "words per answer"),
    "empty": share("empty", "items", "lower", "share of answers with no word"),
    "unfinished": share(
        "unfinished", "items", "lower", "share of answers cut off by the limit of tokens"
    ),
}


def form(response: str) -> dict[str, int]:
    """Return the counts of one answer: `items` (1), `words`, `empty`."""
    words = len(_WORD.findall(response))
    return {"items": 1, "words": words, "empty": int(words == 0)}


def verdict(item: Item, response: str, resources: Resources) -> dict[str, Any]:
    """Return the counts of one answer, those of `form`, and `flawed`, `note` and `expected`."""
    note = "" if response.strip() else "no answer"
    return {**form(response), "flawed": False, "note": note, "expected": ""}


def metrics(columns: set[str]) -> dict[str, Metric]:
    """Return the metrics by name: words, empty and, if it is in `columns`, unfinished."""
    return {name: metric for name, metric in _METRICS.items() if name in columns}
