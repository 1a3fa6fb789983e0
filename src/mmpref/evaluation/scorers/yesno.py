"""Yes/no questions about objects, asked as POPE asks them (arXiv 2305.10355)."""

import re
from typing import Any

from mmpref.evaluation.items import SETTINGS, Item
from mmpref.evaluation.statistics import Metric, Sums, ratio

_ANSWER = re.compile(r"\W*(yes|no)(?![\w'’-])", re.IGNORECASE)
# First words that look like an answer and are none.
_NO_ANSWER = re.compile(
    r"\W*(?:yes[\s/]+(?:(?:and|or)\s+)?no|no\s+(?:idea|doubt))\b", re.IGNORECASE
)


def parse(response: str) -> str | None:
    """Return `yes` or `no` when that is the first word of the answer, otherwise None.

    Nothing is guessed from the rest: "There is no dog", "Nope" and "Yes or no?" are None.
    """
    found = _ANSWER.match(response)
    if not found or _NO_ANSWER.match(response):
        return None
    return found[1].lower()


def verdict(item: Item, response: str) -> dict[str, Any]:
    """Return the counts of one answer, overall and under `SETTING/`.

    `items` (1), `labelled_yes`, `answered_yes`, `true_yes` (both), `correct`, `unparsed`, all 0 or
    1; besides, for the reader, `label`, `setting` and `answer` (`yes`, `no` or `unparsed`).
    """
    answer, label, setting = parse(response), item.truth["label"], item.truth["setting"]
    counts = {
        "items": 1,
        "labelled_yes": int(label == "yes"),
        "answered_yes": int(answer == "yes"),
        "true_yes": int(answer == label == "yes"),
        "correct": int(answer == label),
        "unparsed": int(answer is None),
    }
    return {
        **counts,
        **{f"{setting}/{name}": count for name, count in counts.items()},
        "label": label,
        "setting": setting,
        "answer": answer or "unparsed",
    }


def metrics(columns: set[str]) -> dict[str, Metric]:
    """Return the metrics by name, overall and, under `SETTING/`, for each setting in `columns`.

    The positive class is yes. An unparsed answer is neither yes nor no: it counts against
    accuracy and recall, and not for precision.
    """
    present = [f"{setting}/" for setting in SETTINGS if f"{setting}/items" in columns]
    return {f"{prefix}{name}": metric for prefix in ("", *present) for name, metric in _of(prefix)}


def _of(prefix: str) -> list[tuple[str, Metric]]:
    def f1(sums: Sums) -> Any:
        return ratio(
            2 * sums[f"{prefix}true_yes"],
            sums[f"{prefix}answered_yes"] + sums[f"{prefix}labelled_yes"],
        )

    def share(numerator: str, denominator: str) -> Any:
        return lambda sums: ratio(sums[prefix + numerator], sums[prefix + denominator])

    return [
        ("accuracy", Metric(share("correct", "items"), "higher", "share of right answers")),
        (
            "precision",
            Metric(share("true_yes", "answered_yes"), "higher", "share of right ones among yes"),
        ),
        (
            "recall",
            Metric(share("true_yes", "labelled_yes"), "higher", "share of present objects seen"),
        ),
        ("F1", Metric(f1, "higher", "harmonic mean of precision and recall")),
        ("yes", Metric(share("answered_yes", "items"), None, "share of answers that are yes")),
        (
            "unparsed",
            Metric(share("unparsed", "items"), "lower", "share of answers neither yes nor no"),
        ),
    ]
