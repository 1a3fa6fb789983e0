"""Yes/no questions, those about objects that POPE asks (arXiv 2305.10355) and others."""

import re
from typing import Any

from mmpref.records.items import SETTINGS, Item
from mmpref.scoring.metric import Array, Metric, Sums, ratio, share
from mmpref.scoring.resources import Resources

# After (?! are first words that look like an answer and are none.
_ANSWER = re.compile(
    r"\W*(?!yes[\s/]+(?:(?:and|or)\s+)?no\b|no\s+(?:idea|doubt)\b)(yes|no)(?![\w'’-])",
    re.IGNORECASE,
)


def parse(response: str) -> str | None:
    """Return `yes` or `no` when that is the first word of the answer, otherwise None.

    Nothing is guessed from the rest: "There is no dog", "Nope" and "Yes or no?" are None.
    """
    found = _ANSWER.match(response)
    return found[1].lower() if found else None


def counts(answer: str | None, label: str, reading: str = "") -> dict[str, int]:
    """Return `answered_yes`, `true_yes` (answered and labelled so) and `correct`, all 0 or 1.

    Of several readings of an answer each has columns that begin with its own `reading`.
    """
    return {
        f"{reading}answered_yes": int(answer == "yes"),
        f"{reading}true_yes": int(answer == label == "yes"),
        f"{reading}correct": int(answer == label),
    }


def verdict(item: Item, response: str, resources: Resources) -> dict[str, Any]:
    """Return the counts of one answer, overall and under its `SETTING/` if it has one, all 0 or 1.

    `items` (1), `labelled_yes`, those of `counts`, and `unparsed`.
    """
    answer, label, setting = parse(response), item.truth["label"], item.truth.get("setting")
    columns = {
        "items": 1,
        "labelled_yes": int(label == "yes"),
        **counts(answer, label),
        "unparsed": int(answer is None),
    }
    return {
        **columns,
        **({f"{setting}/{name}": count for name, count in columns.items()} if setting else {}),
        "flawed": answer != label,
        "note": "neither yes nor no" if answer is None else "right" if answer == label else "wrong",
        "expected": f"True answer: {label}" + (f" ({setting})" if setting else ""),
    }


def metrics(columns: set[str]) -> dict[str, Metric]:
    """Return the metrics by name, overall and, under `SETTING/`, for each setting in `columns`.

    The positive class is yes. An unparsed answer is neither yes nor no: it counts against
    accuracy and recall, and not for precision.
    """
    present = [f"{setting}/" for setting in SETTINGS if f"{setting}/items" in columns]
    return {
        f"{prefix}{name}": metric
        for prefix in ("", *present)
        for name, metric in rates(prefix).items()
    }


def rates(prefix: str = "", reading: str = "") -> dict[str, Metric]:
    """Return the metrics of the columns under `prefix`, by name; `reading` is that of `counts`."""
    items, labelled = f"{prefix}items", f"{prefix}labelled_yes"
    answered, true, correct = (f"{prefix}{name}" for name in counts(None, "", reading))

    def f1(sums: Sums) -> Array:
        return ratio(2 * sums[true], sums[answered] + sums[labelled])

    unparsed = f"{prefix}unparsed"
    return {
        "accuracy": share(correct, items, "higher", "share of right answers"),
        "precision": share(true, answered, "higher", "share of right ones among yes"),
        "recall": share(true, labelled, "higher", "share of present objects seen"),
        "F1": Metric(f1, "higher", "harmonic mean of precision and recall"),
        "yes": share(answered, items, None, "share of answers that are yes"),
        "unparsed": share(unparsed, items, "lower", "share of answers neither yes nor no"),
    }
