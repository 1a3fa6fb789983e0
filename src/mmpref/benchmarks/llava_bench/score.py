"""LLaVA-Bench, in the wild and COCO (arXiv 2304.08485): a judge scores an answer beside GPT-4's.

The judge sees captions of the image, of COCO images boxes too, but not the image. Official:
`llava/eval/eval_gpt_review_bench.py` (in the wild), `eval_gpt_review_visual.py` (COCO) and
`summarize_gpt_review.py` of haotian-liu/LLaVA. What the judge is to do stands in the benchmark's
`rule.json`; only the system message, one sentence of the script, is mmpref's.
"""

import math
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

from mmpref.benchmarks.llava_bench.items import CATEGORIES, folder_of, rule_of
from mmpref.errors import InputError
from mmpref.records.items import Item
from mmpref.scoring import judged
from mmpref.scoring.judge import Call
from mmpref.scoring.metric import Array, Metric, Sums, printed, ratio
from mmpref.scoring.resources import Resources

_OWN_PROMPT = Path(__file__).with_name("judge.txt")

_TEMPERATURES = (0.2,)
_MAX_TOKENS = 1024

_SCORE = r"(\d+(?:\.\d+)?)(?:\s*/\s*10)?"
_STRICT = re.compile(
    rf"[\s*_`(\[]*(?:assistant\s*1[\s*_`:=]*)?{_SCORE}"
    rf"[\s*_`,;|)\]]+(?:(?:and|assistant\s*2)[\s*_`:=]*)?{_SCORE}[\s*_`)\].]*",
    re.IGNORECASE,
)

_FINISH: dict[str, judged.Finish] = {
    "official": partial(printed, digits=1),
    "strict": judged.unchanged,
}

_MEANINGS = {
    "score": "mean score of the answers in percent of that of GPT-4's reference answers",
    "reference": "mean score of GPT-4's reference answers by the judge, times 10",
    "model": "mean score of the answers by the judge, times 10",
}


def calls(item: Item, response: str, resources: Resources) -> list[Call]:
    """Return the calls that score an answer beside the reference, one per judge run.

    Raises InputError when the data folder is not given or lacks the rule of the item's category.
    """
    if resources.folder is None:
        raise InputError(
            "LLaVA-Bench: the folder with rule.json, the judge's instructions, is not given"
        )
    truth = item.truth
    folder = folder_of(resources.folder, truth["version"])
    role, rule = rule_of(folder, truth["version"], truth["category"])
    parts = [f"[Context]\n{truth['context']}", f"[Question]\n{truth['question']}"]
    for number, answer in enumerate((truth["reference"], response), start=1):
        parts += [f"[{role} {number}]\n{answer}", f"[End of {role} {number}]"]
    parts += [f"[System]\n{rule}", ""]
    messages = [
        {"role": "system", "content": judged.own_text(_OWN_PROMPT).strip()},
        {"role": "user", "content": "\n\n".join(parts)},
    ]
    return [
        Call(item.id, run, messages, _MAX_TOKENS, _TEMPERATURES)
        for run in range(resources.judge_runs)
    ]


def usable(text: str) -> bool:
    """Say whether a reply has two scores."""
    return parse(text) is not None


def official_scores(text: str) -> tuple[float, float]:
    """Return the scores of reference and model as the official script reads them.

    They are the two fields of the first line between single spaces, with commas as spaces; where
    there are not exactly two, or one is not a number, both are -1: for "8, 7" and "8 7 " too. Any
    number passes, "0 95" as well; only NaN and infinity, which the script would let spoil every
    mean, are -1 here.
    """
    fields = text.split("\n")[0].replace(",", " ").split(" ")
    try:
        reference, model = (float(field) for field in fields)
    except ValueError:
        return -1.0, -1.0
    return (reference, model) if math.isfinite(reference + model) else (-1.0, -1.0)


def parse(text: str) -> tuple[float, float] | None:
    """Return the scores in the first line that is not empty, if that is two scores of 1 to 10.

    They may be set apart in any way ("8, 7", "**8** 7", "8/10 7/10", "Assistant 1: 8, Assistant
    2: 7"); a line with other words or numbers has no scores.
    """
    found = _STRICT.fullmatch(text.strip().split("\n")[0])
    if not found:
        return None
    reference, model = float(found[1]), float(found[2])
    return (reference, model) if 1 <= reference <= 10 and 1 <= model <= 10 else None


def verdict(item: Item, response: str, resources: Resources) -> dict[str, Any]:
    """Return the columns of `judged.numbers`, with the scores of `reference` and `model`.

    Besides, for the reader, `category`, `judge_prompt`, `flawed` (scored below the reference on
    average), `note` and `expected`.
    """
    given = judged.texts(item, resources)
    official = [_values(judged.first(official_scores, run)) for run in given]
    strict = [_values(judged.first(parse, run)) for run in given]
    reference, model = judged.mean(strict, "reference"), judged.mean(strict, "model")
    return {
        **judged.numbers(official, strict, ("reference", "model"), [item.truth["category"]]),
        "category": item.truth["category"],
        "judge_prompt": "official, but for the system message",
        "flawed": reference is not None and model is not None and model < reference,
        "note": judged.note(official, strict, given, _shown),
        "expected": shorten(f"Reference: {item.truth['reference']}", 300),
    }


def metrics(columns: set[str]) -> dict[str, Metric]:
    """Return the metrics of both readings, all also by category.

    A metric is the mean over judge runs, each with the mean over its items; with several runs
    `score_deviation` is the standard deviation of the runs' scores. Official numbers are rounded
    as `summarize_gpt_review.py` prints them: means to three decimals before the ratio is taken, in
    the end to one.
    """
    runs = judged.run_count(columns)
    prefixes = ["", *(f"{name}/" for name in CATEGORIES if f"{name}/items" in columns)]
    found = {}
    for reading, finish in _FINISH.items():
        for prefix in prefixes:
            for name, of_run in (
                ("score", partial(_relative, prefix, reading)),
                ("reference", partial(_times_ten, prefix, reading, "reference")),
                ("model", partial(_times_ten, prefix, reading, "model")),
            ):
                compute = judged.over_runs(of_run, runs, finish)
                found[f"{reading}/{prefix}{name}"] = Metric(
                    compute, None if name == "reference" else "higher", _MEANINGS[name]
                )
        if runs > 1:
            of_run, deviation = partial(_relative, "", reading), judged.deviation_of_runs
            compute = judged.over_runs(of_run, runs, finish, deviation)
            found[f"{reading}/score_deviation"] = Metric(compute, None, judged.DEVIATION)
    return found


def _mean(prefix: str, reading: str, name: str, sums: Sums, run: int) -> Array:
    mean = judged.per_item(prefix, reading, name, sums, run)
    return printed(mean, 3) if reading == "official" else mean


def _relative(prefix: str, reading: str, sums: Sums, run: int) -> Array:
    reference = _mean(prefix, reading, "reference", sums, run)
    return ratio(_mean(prefix, reading, "model", sums, run), reference) * 100


def _times_ten(prefix: str, reading: str, name: str, sums: Sums, run: int) -> Array:
    return _mean(prefix, reading, name, sums, run) * 10


def _values(scores: tuple[float, float] | None) -> judged.Values:
    return {"reference": scores[0], "model": scores[1]} if scores else None


def _shown(values: Mapping[str, float]) -> str:
    return f"{values['model']:g} against {values['reference']:g} for the reference"
