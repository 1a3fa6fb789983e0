"""POPE (arXiv 2305.10355), scored as by `evaluate.py` of RUCAIBox/POPE, and strictly."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmpref.benchmarks.yesno import score as yesno
from mmpref.errors import InputError
from mmpref.records.items import SETTINGS, Item
from mmpref.scoring.resources import Resources
from mmpref.scoring.statistics import Array, Metric, Sums, ratio

# The random questions of 2023, which LLaVA-1.5 and LLaVA-RLHF report, are fewer than today's.
_OLD = "random-2910"
_OLD_ROWS, _ROWS, _YES = 2910, 3000, 1500

_READINGS = {"official": "official_", "strict": ""}
_OBJECT = re.compile(r"Is there an? (.+) in the image\?")


def items(folder: Path, source: str = "coco", settings: Sequence[str] = SETTINGS) -> list[Item]:
    """Return the questions of `source` (`coco`, `aokvqa` or `gqa`) in the given settings.

    The files are those of POPE's folder `output`. Ids are those of the file; with several settings,
    whose ids repeat, `SETTING/ID`. Truth is `label`, `setting`, `object` and `image`. The setting
    `random-2910` is the older random file; a file of any other length than 3,000 and 2,910 rows is
    taken for the user's own.

    Raises InputError when a file is missing, is no such file, or is another version of it.
    """
    questions = []
    for setting in settings:
        path = _file(folder, source, setting)
        rows = _rows(path)
        _check_version(path, setting, rows)
        for row in rows:
            found = _OBJECT.fullmatch(row["text"])
            truth = {
                "kind": "pope",
                "image": row["image"],
                "label": row["label"],
                "setting": setting,
                "object": found[1] if found else row["text"],
            }
            id = str(row["question_id"])
            questions.append(
                Item(id if len(settings) == 1 else f"{setting}/{id}", (), row["text"], truth)
            )
    return questions


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
    present = [setting for setting in (*SETTINGS, _OLD) if f"{setting}/items" in columns]
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


def _file(folder: Path, source: str, setting: str) -> Path:
    if setting not in (*SETTINGS, _OLD):
        raise InputError(
            f"POPE: setting {setting!r} is unknown; write one of {', '.join((*SETTINGS, _OLD))}"
        )
    stem = "coco_pope" if source == "coco" else f"{source}_pope_seem"
    name = f"{stem}_{'random' if setting == _OLD else setting}.json"
    places = [folder / source / name, folder / "seem" / source / name, folder / name]
    for place in places:
        if place.is_file():
            return place
    raise InputError(
        f"{folder}: has no {name}, neither there nor in {source}/ or seem/{source}/; "
        "give the folder `output` of POPE"
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, JSON lines or an array, each with the fields of a question."""
    try:
        text = path.read_text(encoding="utf-8")
        if text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except ValueError as error:
        raise InputError(
            f"{path}: neither JSON lines nor an array ({error}); download it again"
        ) from None
    seen = set()
    for number, row in enumerate(rows, start=1):
        where = f"{path}: row {number}"
        if not isinstance(row, dict) or not isinstance(row.get("question_id"), int | str):
            raise InputError(f"{where}: question_id is missing; give a file of POPE questions")
        id = str(row["question_id"])
        if id in seen:
            raise InputError(f"{where} (question_id {id}): question_id: twice; make ids unique")
        seen.add(id)
        for field in ("image", "text"):
            if not isinstance(row.get(field), str):
                raise InputError(f"{where} (question_id {id}): {field} is missing; write a text")
        if row.get("label") not in ("yes", "no"):
            raise InputError(
                f"{where} (question_id {id}): label is {row.get('label')!r}; write yes or no"
            )
    if not rows:
        raise InputError(f"{path}: has no question; download it again")
    return list(rows)


def _check_version(path: Path, setting: str, rows: list[dict[str, Any]]) -> None:
    yes = Counter(row["label"] for row in rows)["yes"]
    version = f"{path}: {len(rows):,} rows, {yes:,} of them with label yes"
    if setting == _OLD:
        if (len(rows), yes) != (_OLD_ROWS, _YES):
            raise InputError(
                f"{version}: not the random questions of LLaVA-1.5's time, which are {_OLD_ROWS:,} "
                f"({_YES:,} yes); use the setting random"
            )
    elif len(rows) == _OLD_ROWS:
        raise InputError(
            f"{version}: the older version of the random questions, of LLaVA-1.5's time; use the "
            f"setting {_OLD}, or download today's {_ROWS:,}"
        )
    elif len(rows) == _ROWS and yes != _YES:
        raise InputError(f"{version}: {_YES:,} are; download it again")
