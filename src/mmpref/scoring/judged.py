"""What the scorers with a judge have in common: prompts, calls, verdicts, metrics over its runs."""

import ast
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from mmpref.errors import InputError
from mmpref.records.items import Item
from mmpref.scoring.judge import Call
from mmpref.scoring.metric import READINGS, Array, Metric, Sums, ratio
from mmpref.scoring.resources import Resources

Score = TypeVar("Score")

# What came back in one judge run, attempt by attempt; None where nothing did.
Texts = Sequence[str | None]

# What a judge run says about an item, by name.
Values = Mapping[str, float]


class Measure(NamedTuple):
    """A metric of one judge run, and how the runs are summed up (over the last axis).

    `compute` takes a function from the name of a value to its mean over the items.
    """

    compute: Callable[[Callable[[str], Array]], Array]
    better: Literal["lower", "higher"] | None
    meaning: str
    over_runs: Callable[..., Any] = np.nanmean


def deviation(measure: Measure) -> Measure:
    """Return the standard deviation (of the population) of a score over the judge runs."""
    meaning = "standard deviation of the judge runs' scores"
    return Measure(measure.compute, None, meaning, np.nanstd)


def texts(item: Item, resources: Resources) -> list[Texts]:
    """Return what the judge replied about an item, by judge run."""
    replies = resources.replies.get(item.id, [])
    return [
        [reply.text for reply in replies if reply.run == run] for run in range(resources.judge_runs)
    ]


def first(parse: Callable[[str], Score | None], given: Texts) -> Score | None:
    """Return what `parse` finds in the first of the texts in which it finds anything."""
    found = (parse(text) for text in given if text is not None)
    return next((score for score in found if score is not None), None)


def calls(
    item: Item,
    resources: Resources,
    messages: Sequence[dict[str, Any]],
    max_tokens: int,
    temperatures: tuple[float, ...] = (0.0,),
) -> list[Call]:
    """Return the same call for every judge run."""
    runs = range(resources.judge_runs)
    return [Call(item.id, run, messages, max_tokens, temperatures) for run in runs]


def verdict(
    item: Item,
    resources: Resources,
    official: Callable[[Texts], Score | None],
    strict: Callable[[str], Score | None],
    values: Callable[[Score], Values],
    names: Sequence[str],
    parts: Sequence[str],
    about: Mapping[str, str],
    is_flawed: Callable[[Values], bool],
    show: Callable[[Values], str],
) -> dict[str, Any]:
    """Return the columns of an item: what `values` makes of the scores in the judge's replies.

    Columns: `items` (1), `unparsed` (1 when no judge run gave a strict score), `differs` (0 or 1),
    `judge_failures` (judge runs without a strict score), and by reading and run `READING_items_RUN`
    (0 or 1) and, of all `names`, `READING_NAME_RUN` (0 where the run does not count); all of these
    also under each of `parts`, as PART/COLUMN. For the reader `about`, `flawed` (by the means over
    the strict scores), `note` and `expected`.
    """
    given = texts(item, resources)

    def counted(score: Score | None) -> Values | None:
        return None if score is None else values(score)

    readings = {
        "official": [counted(official(run)) for run in given],
        "strict": [counted(first(strict, run)) for run in given],
    }
    scores = [run for run in readings["strict"] if run is not None]
    differs = readings["official"] != readings["strict"]
    columns: dict[str, float] = {
        "items": 1,
        "unparsed": int(not scores),
        "differs": int(differs),
        "judge_failures": len(given) - len(scores),
    }
    shown = {}
    for reading, runs in readings.items():
        shown[reading] = ", ".join("nothing" if run is None else show(run) for run in runs)
        for number, run in enumerate(runs):
            columns[f"{reading}_items_{number}"] = int(run is not None)
            columns |= {f"{reading}_{name}_{number}": run[name] if run else 0 for name in names}
    note = f"judged {shown['strict']}"
    if differs:
        note += f" (official: {shown['official']})"
    pairs = zip(given, readings["strict"], strict=True)
    failed = [text for run, found in pairs if found is None for text in run if text is not None]
    if failed:
        note += f"; not understood: {shorten(failed[-1], 120)!r}"
    means = {name: sum(run[name] for run in scores) / len(scores) for name in names if scores}
    return {
        **columns,
        **{f"{part}/{name}": value for part in parts for name, value in columns.items()},
        **about,
        "flawed": bool(means) and is_flawed(means),
        "note": note,
        "expected": shorten(f"Reference: {item.truth['reference']}", 300),
    }


def metrics(
    columns: set[str],
    measures: Mapping[str, Measure],
    rounded: Callable[[Array], Array],
    mean_rounded: Callable[[Array], Array] = np.asarray,
) -> dict[str, Metric]:
    """Return the metrics of both readings, from `measures` by NAME or PART/NAME.

    A metric is the mean over judge runs, each with the mean over its items; a measure with another
    summary takes several runs. Parts that no item has are left out. In the official reading means
    over items are `mean_rounded` and metrics `rounded`.
    """
    runs = sum(f"strict_items_{run}" in columns for run in range(len(columns)))

    def compute(measure: Measure, reading: str, prefix: str, sums: Sums) -> Array:
        def mean(run: int, name: str) -> Array:
            start = f"{prefix}{reading}_"
            found = ratio(sums[f"{start}{name}_{run}"], sums[f"{start}items_{run}"])
            return mean_rounded(found) if reading == "official" else found

        by_run = np.stack([measure.compute(partial(mean, run)) for run in range(runs)], axis=-1)
        with warnings.catch_warnings():  # about items without a score in any run
            warnings.simplefilter("ignore", RuntimeWarning)
            summary = measure.over_runs(by_run, axis=-1)
        return rounded(summary) if reading == "official" else summary

    found = {}
    for reading in READINGS:
        for name, measure in measures.items():
            prefix = name[: name.rfind("/") + 1]
            if f"{prefix}items" in columns and (runs > 1 or measure.over_runs is np.nanmean):
                of_sums = partial(compute, measure, reading, prefix)
                found[f"{reading}/{name}"] = Metric(of_sums, measure.better, measure.meaning)
    return found


def judge_prompt(
    resources: Resources, files: tuple[str, ...], name: str, own: Path
) -> tuple[str, str]:
    """Return the text that tells the judge its task, and whose it is: `official` or `mmpref`.

    It is the string that one of the official `files`, if the data folder has one, gives to the
    variable `name`; otherwise `own`, a file of ours.

    Raises InputError when the file is there and has no such string.
    """
    for path in [resources.folder / file for file in files] if resources.folder else []:
        if path.is_file():
            return _official(path, name), "official"
    return own.read_text(encoding="utf-8"), "mmpref"


@cache  # it is read for every item
def _official(path: Path, name: str) -> str:
    try:
        source = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            cells = [cell for cell in json.loads(source)["cells"] if cell["cell_type"] == "code"]
            source = "\n".join("".join(cell["source"]) for cell in cells)
        tree = ast.parse(source)
    except (SyntaxError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not Python ({error}); download it again") from None
    for node in tree.body:
        match node:
            case ast.Assign([ast.Name(id)], ast.Constant(str(text))) if id == name:
                return text
    raise InputError(
        f"{path}: sets no string {name}; download it again, or remove it to use mmpref's own prompt"
    )
