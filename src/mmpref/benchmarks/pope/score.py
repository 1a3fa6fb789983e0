"""POPE (arXiv 2305.10355), scored as by `evaluate.py` of RUCAIBox/POPE, and strictly."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from mmpref.benchmarks.pope.items import OLD
from mmpref.benchmarks.yesno import score as yesno
from mmpref.records.items import SETTINGS, Item
from mmpref.scoring.metric import Array, Metric, Sums, ratio
from mmpref.scoring.resources import Resources


def official_answer(response: str) -> str:
    """Return `yes` or `no`, as `evaluate.py` reads an answer.

    It is no when the text before the first period holds, between single spaces and with commas
    removed, one of the words No, no and not; everything else is yes, "NO", "No!" and "" too.
    """
    words = response.partition(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def verdict(item: Item, response: str, resources: Resources) -> dict[str, Any]:
    """Return the counts of one answer, overall and under `SETTING/`, all 0 or 1.

    `items` (1), `labelled_yes`, `unparsed`, `yesno.counts` under each reading (the official one's
    begin with `official_`), and `differs` where the readings take the answer differently.
    """
    label, setting = item.truth["label"], item.truth["setting"]
    official, strict = official_answer(response), yesno.parse(response)
    counts = {
        "items": 1,
        "labelled_yes": int(label == "yes"),
        **yesno.counts(strict, label),
        **yesno.counts(official, label, "official_"),
        "unparsed": int(strict is None),
        "differs": int(strict != official),
    }
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

    `evaluate.py` dies of a division by zero where the metric here is NaN. The strict reading
    counts what it cannot parse as `yesno.metrics` does.

    Of several settings each is a part, and papers and tools differ in how they sum them up:
    `mean/F1` (LLaVA-1.5, arXiv 2310.03744) and `mean/accuracy` (most papers) are means over
    settings, `pooled/F1` (VLMEvalKit's "Overall") and `pooled/accuracy` over all questions at once.
    """
    present = [setting for setting in (*SETTINGS, OLD) if f"{setting}/items" in columns]
    found: dict[str, Metric] = {}
    for reading, start in (("official", "official_"), ("strict", "")):
        pooled = _rates("", start)
        if len(present) == 1:
            found |= {f"{reading}/{name}": metric for name, metric in pooled.items()}
            continue
        parts = {setting: _rates(f"{setting}/", start) for setting in present}
        for name in ("F1", "accuracy"):
            compute = partial(_mean, [part[name] for part in parts.values()])
            meaning = f"mean of the settings' {name}"
            found[f"{reading}/mean/{name}"] = Metric(compute, "higher", meaning)
        for name in ("F1", "accuracy"):
            meaning = f"{name} over the questions of all settings"
            found[f"{reading}/pooled/{name}"] = replace(pooled[name], meaning=meaning)
        for setting, part in parts.items():
            found |= {f"{reading}/{setting}/{name}": metric for name, metric in part.items()}
    return found


def _rates(prefix: str, reading: str) -> dict[str, Metric]:
    rates = yesno.rates(prefix, reading)
    answered, true, correct = (f"{prefix}{name}" for name in yesno.counts(None, "", reading))

    def but_true(column: str) -> Callable[[Sums], Array]:
        return lambda sums: sums[column] - sums[true]

    def official_f1(sums: Sums) -> Array:
        # In this order, for the same last digit; and undefined, not 0, without a true yes.
        precision, recall = (rates[name].compute(sums) for name in ("precision", "recall"))
        return ratio(2 * precision * recall, precision + recall)

    false_no = but_true(f"{prefix}labelled_yes")
    found = {
        **{name: rates[name] for name in ("accuracy", "precision", "recall", "F1")},
        "yes_ratio": rates["yes"],
        "TP": Metric(lambda sums: sums[true], "higher", "present objects answered with yes"),
        "FP": Metric(but_true(answered), "lower", "absent objects answered with yes"),
        "TN": Metric(but_true(correct), "higher", "absent objects answered with no"),
        "FN": Metric(false_no, "lower", "present objects not answered with yes"),
    }
    if reading:
        return found | {"F1": replace(rates["F1"], compute=official_f1)}
    return found | {"unparsed": rates["unparsed"]}


def _mean(metrics: Sequence[Metric], sums: Sums) -> Array:
    return np.mean([metric.compute(sums) for metric in metrics], axis=0)
