"""MM-Vet (arXiv 2308.02490): a judge gives each answer 0 to 1.

Official: `mm-vet_evaluator.py` (the same as a notebook) of yuweihao/MM-Vet.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np

from mmpref.benchmarks.mm_vet.items import CAPABILITIES
from mmpref.records.items import Item
from mmpref.scoring import judged
from mmpref.scoring.judge import Call
from mmpref.scoring.resources import Resources

_prompt = partial(
    judged.judge_prompt,
    files=("mm-vet_evaluator.py", "mm-vet_evaluator.ipynb"),
    name="prompt",
    own=Path(__file__).with_name("judge.txt"),
)
# Those of the five replies that the evaluator reads; it asks a sixth time, at 2.0, in vain.
_TEMPERATURES = (0.0, 0.0, 0.5, 1.0, 1.5)
_MAX_TOKENS = 3

_SCORE = re.compile(r"[\s*_`\"']*(\d+(?:\.\d*)?|\.\d+)(?![\w%/-]|\.\d)")


def calls(item: Item, response: str, resources: Resources) -> list[Call]:
    """Return the calls that score a response.

    When a reply is not a score the evaluator asks again, with one sentence more; here the question
    stays as it is.

    Raises InputError when the benchmark's own prompt file is another one.
    """
    reference = item.truth["reference"].replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
    row = " | ".join([item.truth["question"], reference, response, ""])
    messages = [{"role": "user", "content": f"{_prompt(resources)[0]}\n{row}"}]
    return judged.calls(item, resources, messages, _MAX_TOKENS, _TEMPERATURES)


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


def _official(given: judged.Texts) -> float | None:
    """Return the evaluator's score of a judge run, None when it would still be asking."""
    score = judged.first(official_score, given)
    return 0.0 if score is None and given and given[-1] is not None else score


_MEASURE = judged.Measure(
    lambda mean: mean("score") * 100, "higher", "mean score of the answers by the judge, 0 to 100"
)
_SCALE = judged.Scale(
    official=_official,
    strict=parse,
    names=("score",),
    values=lambda score: {"score": score},
    parts=lambda item: [name for name in CAPABILITIES if name in item.truth["capability"]],
    about=lambda item, resources: {"judge_prompt": _prompt(resources)[1]},
    is_flawed=lambda mean: mean["score"] < 0.5,
    show=lambda values: f"{values['score']:g} of 1",
    # The paper has five judge runs.
    measures={
        "score": _MEASURE,
        "score_deviation": judged.deviation(_MEASURE),
        **{f"{capability}/score": _MEASURE for capability in CAPABILITIES},
    },
    # The evaluator adds up in floating point, item after item, and rounds as NumPy does; where a
    # mean lies halfway between two decimals (often in `gen`, which has 80 items) the digit printed
    # is its only for column sums that were taken in the same way.
    rounded=lambda values: np.round(values, 1),
)
verdict, metrics = _SCALE.verdict, _SCALE.metrics
