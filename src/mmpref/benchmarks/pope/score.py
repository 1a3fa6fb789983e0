"""POPE (arXiv 2305.10355), scored as by `evaluate.py` of RUCAIBox/POPE, and strictly."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mmpref.benchmarks.pope.items import OLD
from mmpref.benchmarks.yesno import score as yesno
from mmpref.records.items import SETTINGS, Item
from mmpref.scoring.metric import Array, Metric, Sums, ratio
from mmpref.scoring.resources import Resources

_READINGS = {"official": "official_", "strict": ""}


def official_answer(response: str) -> str:
    """Return `yes` or `no`, as `evaluate.py` reads an answer.

    It is no when the text before the first period holds, between single spaces and with commas
    removed, one of the words No, no and not; everything else is yes, "NO", "No!" and "" too.
    """
    words = response.partition(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def verdict(item: Item, response: str, resources: Resources) -> dict[str, Any]:
    """Return the counts of one answer, overall and under `SETTING/`, all 0 or 1.

    `items` (1), `labelled_yes`, `unparsed`, and under each reading (the official one's columns
    begin with `official_`) `answered_yes`, `true_yes` and `correct`; `differs` where the readings
    take the answer differently.
    """
    label, setting = item.truth["label"], item.truth["setting"]
    official, strict = official_answer(response), yesno.parse(response)
    counts = {"items": 1, "labelled_yes": int(label == "yes"), **yesno.counts(strict, label)}
    for name, count in yesno.counts(official, label).items():
        counts[f"official_{name}"] = count
    counts |= {"unparsed": int(strict is None), "differs": int(strict != official)}
    note = f"read as {strict or 'neither yes nor no'}"
    return {
        **counts,
        **{f"{setting}/{name}": count for name, count in counts.items()},
        "setting": setting,
        "flawed": strict != label,
        "expected": label,
        "note": note if strict == official else f"{note} (official: {official})",
    }


def metrics(columns: set[str]) -> dict[str, Metric]:
    """Return the metrics of both readings, fractions as `evaluate.py` prints them, unrounded.

    The positive class is yes. `evaluate.py` dies of a division by zero where the metric here is
    NaN. An answer that the strict reading cannot parse is neither yes nor no: it is wrong, a false
    negative where yes was right, and does not count for precision.

    Of several settings each is a part, and papers and tools differ in how they sum them up:
    `mean/F1` (LLaVA-1.5, arXiv 2310.03744) and `mean/accuracy` (most papers) are means over
    settings, `pooled/F1` (VLMEvalKit's "Overall") and `pooled/accuracy` over all questions at once.
    """
    present = [setting for setting in (*SETTINGS, OLD) if f"{setting}/items" in columns]
    found = {}
    for reading, start in _READINGS.items():
        pooled = _of("", start)
        if len(present) == 1:
            found.update({f"{reading}/{name}": metric for name, metric in pooled.items()})
            continue
        parts = [_of(f"{setting}/", start) for setting in present]
        for name in ("F1", "accuracy"):
            mean = _mean([part[name].compute for part in parts])
            found[f"{reading}/mean/{name}"] = Metric(
                mean, "higher", f"mean of the settings' {name}"
            )
        for name in ("F1", "accuracy"):
            found[f"{reading}/pooled/{name}"] = Metric(
                pooled[name].compute, "higher", f"{name} over the questions of all settings"
            )
        for setting, part in zip(present, parts, strict=True):
            found.update({f"{reading}/{setting}/{name}": part[name] for name in part})
    return found


def _of(prefix: str, reading: str) -> dict[str, Metric]:
    rates = yesno.rates(prefix, reading)
    labelled = f"{prefix}labelled_yes"
    answered, true, correct = (
        f"{prefix}{reading}{name}" for name in ("answered_yes", "true_yes", "correct")
    )

    def difference(of: str, less: str) -> Callable[[Sums], Array]:
        return lambda sums: sums[of] - sums[less]

    found = {
        **{name: rates[name] for name in ("accuracy", "precision", "recall", "F1")},
        "yes_ratio": rates["yes"],
        "TP": Metric(lambda sums: sums[true], "higher", "present objects answered with yes"),
        "FP": Metric(difference(answered, true), "lower", "absent objects answered with yes"),
        "TN": Metric(difference(correct, true), "higher", "absent objects answered with no"),
        "FN": Metric(difference(labelled, true), "lower", "present objects not answered with yes"),
    }
    if not reading:
        return found | {"unparsed": rates["unparsed"]}

    def f1(sums: Sums) -> Array:
        # In this order, for the same last digit; and undefined, not 0, without a true yes.
        precision, recall = (rates[name].compute(sums) for name in ("precision", "recall"))
        return ratio(2 * precision * recall, precision + recall)

    return found | {"F1": Metric(f1, "higher", rates["F1"].meaning)}


def _mean(computes: Sequence[Callable[[Sums], Array]]) -> Callable[[Sums], Array]:
    return lambda sums: np.mean([compute(sums) for compute in computes], axis=0)
