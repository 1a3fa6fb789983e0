"""What the scorers with a judge have in common: prompts, calls, verdicts, metrics over its runs."""

import ast
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from textwrap import shorten
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from mmpref.errors import InputError
from mmpref.records.items import Item
from mmpref.scoring.judge import Call
from mmpref.scoring.metric import READINGS, Array, Better, Metric, Sums, ratio
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
    better: Better
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


@dataclass(frozen=True)
class Scale(Generic[Score]):
    """How a benchmark turns the judge's replies into verdicts and metrics, under both readings.

    `official` reads the replies of a judge run, `strict` a text; `values` are the numbers, called
    `names`, that a score stands for. `parts` of the benchmark that an item is in have metrics of
    their own; `about` has columns for the reader. `is_flawed` takes the means over the strict
    scores. In the official reading means over items are `mean_rounded` and metrics `rounded`.
    """

    official: Callable[[Texts], Score | None]
    strict: Callable[[str], Score | None]
    names: Sequence[str]
    values: Callable[[Score], Values]
    parts: Callable[[Item], Sequence[str]]
    about: Callable[[Item, Resources], Mapping[str, str]]
    is_flawed: Callable[[Values], bool]
    show: Callable[[Values], str]
    measures: Mapping[str, Measure]
    rounded: Callable[[Array], Array]
    mean_rounded: Callable[[Array], Array] = np.asarray

    def verdict(self, item: Item, response: str, resources: Resources) -> dict[str, Any]:
        """Return the columns of an item.

        Columns: `items` (1), `unparsed` (1 when no judge run gave a strict score), `differs` (0 or
        1), `judge_failures` (judge runs without a strict score), and by reading and run
        `READING_items_RUN` (0 or 1) and `READING_NAME_RUN` (0 where the run does not count); all of
        these also by part, as PART/COLUMN; `about`, `flawed`, `note` and `expected`.
        """
        given = texts(item, resources)
        scores = {
            "official": [self.official(run) for run in given],
            "strict": [first(self.strict, run) for run in given],
        }
        said = {
            reading: [None if score is None else self.values(score) for score in of_runs]
            for reading, of_runs in scores.items()
        }
        counted = [values for values in said["strict"] if values is not None]
        columns: dict[str, float] = {
            "items": 1,
            "unparsed": int(not counted),
            "differs": int(said["official"] != said["strict"]),
            "judge_failures": len(given) - len(counted),
        }
        shown = {}
        for reading, of_runs in said.items():
            for run, values in enumerate(of_runs):
                columns[f"{reading}_items_{run}"] = int(values is not None)
                for name in self.names:
                    columns[f"{reading}_{name}_{run}"] = values[name] if values else 0
            shown[reading] = ", ".join("nothing" if v is None else self.show(v) for v in of_runs)
        note = f"judged {shown['strict']}"
        if columns["differs"]:
            note += f" (official: {shown['official']})"
        failed = [run for run, values in zip(given, said["strict"], strict=True) if values is None]
        unread = [text for run in failed for text in run if text is not None]
        if unread:
            note += f"; not understood: {shorten(unread[-1], 120)!r}"
        sums = {name: sum(values[name] for values in counted) for name in self.names if counted}
        means = {name: total / len(counted) for name, total in sums.items()}
        return {
            **columns,
            **{f"{p}/{name}": value for p in self.parts(item) for name, value in columns.items()},
            **self.about(item, resources),
            "flawed": bool(means) and self.is_flawed(means),
            "note": note,
            "expected": shorten(f"Reference: {item.truth['reference']}", 300),
        }

    def metrics(self, columns: set[str]) -> dict[str, Metric]:
        """Return the metrics of both readings, from `measures` by NAME or PART/NAME.

        A metric is the mean over judge runs, each with the mean over its items; a measure with
        another summary takes several runs. Parts that no item is in are left out.
        """
        runs = sum(f"strict_items_{run}" in columns for run in range(len(columns)))
        found = {}
        for reading in READINGS:
            for name, measure in self.measures.items():
                part = name[: name.rfind("/") + 1]
                if f"{part}items" in columns and (runs > 1 or measure.over_runs is np.nanmean):
                    compute = partial(self._compute, measure, reading, part, runs)
                    found[f"{reading}/{name}"] = Metric(compute, measure.better, measure.meaning)
        return found

    def _compute(self, measure: Measure, reading: str, part: str, runs: int, sums: Sums) -> Array:
        def mean(run: int, name: str) -> Array:
            start = f"{part}{reading}_"
            found = ratio(sums[f"{start}{name}_{run}"], sums[f"{start}items_{run}"])
            return self.mean_rounded(found) if reading == "official" else found

        by_run = np.stack([measure.compute(partial(mean, run)) for run in range(runs)], axis=-1)
        with warnings.catch_warnings():  # about items without a score in any run
            warnings.simplefilter("ignore", RuntimeWarning)
            summary = measure.over_runs(by_run, axis=-1)
        return self.rounded(summary) if reading == "official" else summary


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
