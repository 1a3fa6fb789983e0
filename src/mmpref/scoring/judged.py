"""What the scorers with a judge have in common: prompts, and columns per judge run."""

import ast
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from textwrap import shorten
from typing import TypeVar

import numpy as np

from mmpref.errors import InputError
from mmpref.records.items import Item
from mmpref.scoring.metric import READINGS, Array, Sums, ratio
from mmpref.scoring.resources import Resources

# What a judge run says about an item, by name; None when that run does not count.
Values = Mapping[str, float] | None

# What came back in one judge run, attempt by attempt; None where nothing did.
Texts = Sequence[str | None]

# What a reading does with a number at the end.
Finish = Callable[[Array], Array]

Value = TypeVar("Value")

DEVIATION = "standard deviation of the judge runs' scores"


def texts(item: Item, resources: Resources) -> list[Texts]:
    """Return what the judge replied about an item, by judge run."""
    replies = resources.replies.get(item.id, [])
    return [
        [reply.text for reply in replies if reply.run == run] for run in range(resources.judge_runs)
    ]


def first(parse: Callable[[str], Value | None], given: Texts) -> Value | None:
    """Return what `parse` finds in the first of the texts in which it finds anything."""
    found = (parse(text) for text in given if text is not None)
    return next((value for value in found if value is not None), None)


def numbers(
    official: Sequence[Values], strict: Sequence[Values], names: Sequence[str], parts: Sequence[str]
) -> dict[str, float]:
    """Return the numeric columns of an item, overall and under each of `parts`.

    `official` and `strict` hold what each judge run says under that reading, by `names`. Columns:
    `items` (1), `unparsed` (1 when no judge run gave a strict score), `differs` (0 or 1),
    `judge_failures` (judge runs without a strict score), and by reading and run
    `READING_items_RUN` (0 or 1) and `READING_NAME_RUN` (0 where the run does not count).
    """
    columns: dict[str, float] = {
        "items": 1,
        "unparsed": int(all(values is None for values in strict)),
        "differs": int(list(official) != list(strict)),
        "judge_failures": sum(values is None for values in strict),
    }
    for reading, runs in zip(READINGS, (official, strict), strict=True):
        for run, values in enumerate(runs):
            columns[f"{reading}_items_{run}"] = int(values is not None)
            for name in names:
                columns[f"{reading}_{name}_{run}"] = values[name] if values else 0
    under = {f"{part}/{name}": value for part in parts for name, value in columns.items()}
    return columns | under


def note(
    official: Sequence[Values],
    strict: Sequence[Values],
    given: Sequence[Texts],
    show: Callable[[Mapping[str, float]], str],
) -> str:
    """Return in a few words what the judge said, and where the readings of it differ."""

    def shown(runs: Sequence[Values]) -> str:
        return ", ".join("nothing" if values is None else show(values) for values in runs)

    words = f"judged {shown(strict)}"
    if list(official) != list(strict):
        words += f" (official: {shown(official)})"
    failed = [
        text
        for run, values in zip(given, strict, strict=True)
        for text in run
        if values is None and text is not None
    ]
    if failed:
        words += f"; not understood: {shorten(failed[-1], 120)!r}"
    return words


def mean(runs: Sequence[Values], name: str) -> float | None:
    """Return the mean of a value over the judge runs that count; None when none does."""
    found = [values[name] for values in runs if values is not None]
    return sum(found) / len(found) if found else None


def per_item(prefix: str, reading: str, name: str, sums: Sums, run: int) -> Array:
    """Return the mean over items of a value in one judge run; `prefix` is `` or `PART/`."""
    return ratio(sums[f"{prefix}{reading}_{name}_{run}"], sums[f"{prefix}{reading}_items_{run}"])


def run_count(columns: set[str]) -> int:
    """Return the number of judge runs in a table of verdicts."""
    return sum(f"strict_items_{run}" in columns for run in range(len(columns)))


def over_runs(
    of_run: Callable[[Sums, int], Array],
    runs: int,
    finish: Finish,
    summary: Callable[[Array], Array] | None = None,
) -> Callable[[Sums], Array]:
    """Return the mean over judge runs, or another `summary`, of a quantity of each run.

    The summary is over the last axis; `finish` is what the reading does at the end.
    """
    return lambda sums: finish(
        (summary or mean_of_runs)(np.stack([of_run(sums, run) for run in range(runs)], axis=-1))
    )


def mean_of_runs(values: Array) -> Array:
    """Return the mean over the last axis, of the judge runs that have a value."""
    there = ~np.isnan(values)
    return ratio(np.where(there, values, 0.0).sum(-1), there.sum(-1).astype(np.float64))


def deviation_of_runs(values: Array) -> Array:
    """Return the standard deviation over the last axis, as `numpy.std`: of the population."""
    there = ~np.isnan(values)
    distance = np.where(there, values - mean_of_runs(values)[..., None], 0.0)
    return np.sqrt(ratio((distance * distance).sum(-1), there.sum(-1).astype(np.float64)))


def unchanged(values: Array) -> Array:
    """Return `values`."""
    return values


def judge_prompt(
    resources: Resources, files: tuple[str, ...], name: str, own: Path
) -> tuple[str, str]:
    """Return the text that tells the judge its task, and whose it is: `official` or `mmpref`.

    It is the string that one of the official `files`, if the data folder has one, gives to the
    variable `name`; otherwise `own`, a file of ours.

    Raises InputError when the file is there and has no such string.
    """
    found = _official(resources.folder, files, name) if resources.folder else None
    return (found, "official") if found is not None else (own_text(own), "mmpref")


@lru_cache(maxsize=8)
def own_text(file: Path) -> str:
    """Return a prompt of mmpref's own."""
    return file.read_text(encoding="utf-8")


# Per item it would be read hundreds of times.
@lru_cache(maxsize=8)
def _official(folder: Path, files: tuple[str, ...], name: str) -> str | None:
    path = next((folder / file for file in files if (folder / file).is_file()), None)
    if path is None:
        return None
    try:
        tree = ast.parse(_source(path))
    except (SyntaxError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not Python ({error}); download it again") from None
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and any(isinstance(to, ast.Name) and to.id == name for to in node.targets)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            return node.value.value
    raise InputError(
        f"{path}: sets no string {name}; download it again, or remove it to use mmpref's own prompt"
    )


def _source(path: Path) -> str:
    """Return the Python of a script or a notebook."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return source
    cells = [cell for cell in json.loads(source)["cells"] if cell["cell_type"] == "code"]
    return "\n".join("".join(cell["source"]) for cell in cells)
