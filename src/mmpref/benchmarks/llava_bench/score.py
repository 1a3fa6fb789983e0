"""LLaVA-Bench, in the wild and COCO (arXiv 2304.08485): a judge scores an answer beside GPT-4's.

The judge sees captions of the image, of COCO images boxes too, but not the image. Official:
`llava/eval/eval_gpt_review_bench.py` (in the wild), `eval_gpt_review_visual.py` (COCO) and
`summarize_gpt_review.py` of haotian-liu/LLaVA. What the judge is to do stands in the benchmark's
`rule.json`; only the system message, one sentence of the script, is mmpref's.
"""

import math
import re
from functools import partial
from pathlib import Path

from mmpref.benchmarks.llava_bench.items import CATEGORIES, folder_of, rule_of
from mmpref.errors import InputError
from mmpref.records.items import Item
from mmpref.scoring import judged
from mmpref.scoring.judge import Call
from mmpref.scoring.metric import printed, ratio
from mmpref.scoring.resources import Resources

_OWN_PROMPT = Path(__file__).with_name("judge.txt")

_TEMPERATURES = (0.2,)
_MAX_TOKENS = 1024

_NUMBER = r"(\d+(?:\.\d+)?)(?:\s*/\s*10)?"
_STRICT = re.compile(
    rf"[\s*_`(\[]*(?:assistant\s*1[\s*_`:=]*)?{_NUMBER}"
    rf"[\s*_`,;|)\]]+(?:(?:and|assistant\s*2)[\s*_`:=]*)?{_NUMBER}[\s*_`)\].]*",
    re.IGNORECASE,
)


def calls(item: Item, response: str, resources: Resources) -> list[Call]:
    """Return the calls that score a response beside the reference.

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
        {"role": "system", "content": _OWN_PROMPT.read_text(encoding="utf-8").strip()},
        {"role": "user", "content": "\n\n".join(parts)},
    ]
    return judged.calls(item, resources, messages, _MAX_TOKENS, _TEMPERATURES)


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


_MEASURES = {
    "score": judged.Measure(
        lambda mean: ratio(mean("model"), mean("reference")) * 100,
        "higher",
        "mean score of the answers in percent of that of GPT-4's reference answers",
    ),
    "reference": judged.Measure(
        lambda mean: mean("reference") * 10,
        None,
        "mean score of GPT-4's reference answers by the judge, times 10",
    ),
    "model": judged.Measure(
        lambda mean: mean("model") * 10,
        "higher",
        "mean score of the answers by the judge, times 10",
    ),
}
_SCALE = judged.Scale(
    official=partial(judged.first, official_scores),
    strict=parse,
    names=("reference", "model"),
    values=lambda scores: {"reference": scores[0], "model": scores[1]},
    parts=lambda item: [item.truth["category"]],
    about=lambda item, resources: {
        "category": item.truth["category"],
        "judge_prompt": "official, but for the system message",
    },
    is_flawed=lambda mean: mean["model"] < mean["reference"],
    show=lambda pair: f"{pair['model']:g} against {pair['reference']:g} for the reference",
    measures={
        **_MEASURES,
        **{f"{part}/{name}": one for part in CATEGORIES for name, one in _MEASURES.items()},
        "score_deviation": judged.deviation(_MEASURES["score"]),
    },
    # As `summarize_gpt_review.py` prints them.
    mean_rounded=partial(printed, digits=3),
    rounded=partial(printed, digits=1),
)
verdict, metrics = _SCALE.verdict, _SCALE.metrics
