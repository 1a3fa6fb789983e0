"""MM-Vet (arXiv 2308.02490): a judge gives each answer 0 to 1.

Official: `mm-vet_evaluator.py` (the same as a notebook) of yuweihao/MM-Vet.
"""

import re
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from mmpref.benchmarks.mm_vet.items import CAPABILITIES
from mmpref.records.items import Item
from mmpref.scoring import judged
from mmpref.scoring.judge import Call
from mmpref.scoring.metric import Array, Metric, Sums
from mmpref.scoring.resources import Resources

_OWN_PROMPT = Path(__file__).with_name("judge.txt")
_OFFICIAL_PROMPT = ("mm-vet_evaluator.py", "mm-vet_evaluator.ipynb")
# Those of the five replies that the evaluator reads; it asks a sixth time, at 2.0, in vain.
_TEMPERATURES = (0.0, 0.0, 0.5, 1.0, 1.5)
_MAX_TOKENS = 3

_SCORE = re.compile(r"[\s*_`\"']*(\d+(?:\.\d*)?|\.\d+)(?![\w%/-]|\.\d)")

_MEANING = "mean score of the answers by the judge, 0 to 100"


def calls(item: Item, response: str, resources: Resources) -> list[Call]:
    """Return the calls that score an answer, one per judge run.

    When a reply is not a score the evaluator asks again, with one sentence more; here the question
    stays as it is.

    Raises InputError when the benchmark's own prompt file is another one.
    """
    reference = item.truth["reference"].replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
    row = " | ".join([item.truth["question"], reference, response, ""])
    messages = [{"role": "user", "content": f"{_prompt(resources)[0]}\n{row}"}]
    return [
        Call(item.id, run, messages, _MAX_TOKENS, _TEMPERATURES)
        for run in range(resources.judge_runs)
    ]


def usable(text: str) -> bool:
    """Say whether the evaluator takes a reply for a score; otherwise it asks again."""
    return official_score(text) is not None


def official_score(text: str) -> float | None:
    """Return the score as the evaluator reads it: the text before the first space, from 0 to 1.

    None when that is not such a number, as of " 0.5" with its leading space. "nan" is None too; the
    evaluator would let it spoil every mean.
    """
    try:
        score = float(text.split(" ")[0].strip())
    except ValueError:
        return None
    return score if 0 <= score <= 1 else None


def parse(text: str) -> float | None:
    """Return the number from 0 to 1 that a reply begins with, apart from spaces and bold type."""
    found = _SCORE.match(text)
    score = float(found[1]) if found else None
    return score if score is not None and score <= 1 else None


def verdict(item: Item, response: str, resources: Resources) -> dict[str, Any]:
    """Return the columns of `judged.numbers`, with `score` (0 to 1).

    When the evaluator can read none of the replies, the official score is 0. Besides, for the
    reader, `judge_prompt` (`official` or `mmpref`), `flawed` (below 0.5 on average), `note` and
    `expected`.
    """
    given = judged.texts(item, resources)
    official = [_values(_official(run)) for run in given]
    strict = [_values(judged.first(parse, run)) for run in given]
    score = judged.mean(strict, "score")
    capabilities = [name for name in CAPABILITIES if name in item.truth["capability"]]
    return {
        **judged.numbers(official, strict, ("score",), capabilities),
        "judge_prompt": _prompt(resources)[1],
        "flawed": score is not None and score < 0.5,
        "note": judged.note(official, strict, given, lambda values: f"{values['score']:g} of 1"),
        "expected": shorten(f"Reference: {item.truth['reference']}", 300),
    }


def metrics(columns: set[str]) -> dict[str, Metric]:
    """Return the metrics of both readings, the score also by capability.

    A metric is the mean over judge runs (the paper has five), each with the mean over its items;
    with several runs `score_deviation` is the standard deviation of the runs' scores: that of the
    population (`numpy.std`), as in the evaluator. Official numbers are rounded to one decimal, as
    NumPy rounds. The evaluator adds up the scores in floating point, item after item; where a mean
    lies halfway between two decimals (often in `gen`, which has 80 items) the digit printed is its
    only for column sums that were taken in the same way.
    """
    runs = judged.run_count(columns)
    found = {}
    for reading, finish in (("official", _rounded), ("strict", judged.unchanged)):
        total = partial(_percent, "", reading)
        compute = judged.over_runs(total, runs, finish)
        found[f"{reading}/score"] = Metric(compute, "higher", _MEANING)
        if runs > 1:
            compute = judged.over_runs(total, runs, finish, judged.deviation_of_runs)
            found[f"{reading}/score_deviation"] = Metric(compute, None, judged.DEVIATION)
        for name in CAPABILITIES:
            if f"{name}/items" in columns:
                compute = judged.over_runs(partial(_percent, f"{name}/", reading), runs, finish)
                found[f"{reading}/{name}/score"] = Metric(compute, "higher", _MEANING)
    return found


def _prompt(resources: Resources) -> tuple[str, str]:
    return judged.judge_prompt(resources, _OFFICIAL_PROMPT, "prompt", _OWN_PROMPT)


def _official(given: judged.Texts) -> float | None:
    """Return the evaluator's score of a judge run, None when it would still be asking."""
    score = judged.first(official_score, given)
    return 0.0 if score is None and given and given[-1] is not None else score


def _values(score: float | None) -> judged.Values:
    return None if score is None else {"score": score}


def _percent(prefix: str, reading: str, sums: Sums, run: int) -> Array:
    return judged.per_item(prefix, reading, "score", sums, run) * 100


def _rounded(values: Array) -> Array:
    # As the evaluator, not as Python: it has NumPy's numbers.
    return np.round(values, 1)
