"""MMHal-Bench (arXiv 2309.14525): a judge rates each answer from 0 to 6.

Official: `eval_gpt4.py` of the benchmark, in public as `Eval/eval_gpt_mmhal.py` of
llava-rlhf/LLaVA-RLHF; informativeness is that of `eval/summarize_gpt_mmhal_review.py` of
RLHF-V/RLHF-V. With the image judge it is MMHALBench-V of the BDHS paper (arXiv 2407.02477): same
prompt, scale and data, and the judge sees the image.
"""

import re
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

from mmpref.benchmarks.mmhal.items import TYPES
from mmpref.errors import InputError
from mmpref.records.items import Item, load_image
from mmpref.scoring import judged
from mmpref.scoring.judge import Call, image_part
from mmpref.scoring.metric import Array, Metric, Sums, printed
from mmpref.scoring.resources import Resources

_OWN_PROMPT = Path(__file__).with_name("judge.txt")
_OFFICIAL_PROMPT = ("eval_gpt4.py", "eval_gpt_mmhal.py")
_PLACES = 4
# The official script sets no limit; explanations are a few sentences.
_MAX_TOKENS = 1024

_RATING = re.compile(
    r"\brating\b[\s*_`]*(?:\(0\s*[-–—]\s*6\))?[\s*_`:=(\[\"']*"
    r"(?P<rating>[-–]?\d+(?:\.\d+)?)[*_`\"')\]]*"
    r"(?P<of>[ \t]*(?:/|out[ \t]+of)[ \t]*\d+)?"
    r"(?P<more>[ \t]*(?:[-–—/]|or|to|and)[ \t]*\d)?",
    re.IGNORECASE,
)

_FINISH: dict[str, judged.Finish] = {
    "official": partial(printed, digits=2),
    "strict": judged.unchanged,
}

_MEANINGS = {
    "score": "mean rating of the answers by the judge, 0 to 6",
    "hallucination_rate": "share of answers rated below 3: with a hallucination",
    "informativeness": "mean rating regardless of hallucinations, in percent of the best",
}


def calls(item: Item, response: str, resources: Resources) -> list[Call]:
    """Return the calls that rate an answer, one per judge run.

    Raises InputError when the judge sees the image and the item has none, or the benchmark's own
    prompt file is another one.
    """
    template, whose = _prompt(resources)
    if template.count("{}") != _PLACES:
        raise InputError(
            f"MMHal-Bench: the {whose} prompt has {template.count('{}')} places {{}} to fill in, "
            f"not {_PLACES}; download {' or '.join(_OFFICIAL_PROMPT)} again"
        )
    truth = item.truth
    contents = ", ".join(truth["image_content"])
    text = template.format(contents, truth["question"], truth["reference"], response)
    content: str | list[dict[str, Any]] = text
    if truth.get("image_judge"):
        if not item.images:
            raise InputError(
                f"MMHal-Bench: item {item.id!r}: images: none, but the judge is to see it; give "
                "the folder with the images, or use the benchmark mmhal, whose judge sees text only"
            )
        shown = [image_part(load_image(image)) for image in item.images]
        content = [{"type": "text", "text": text}, *shown]
    messages = [{"role": "user", "content": content}]
    return [
        Call(item.id, run, messages, max_tokens=_MAX_TOKENS) for run in range(resources.judge_runs)
    ]


def usable(text: str) -> bool:
    """Say whether a reply has a rating."""
    return parse(text) is not None


def official_rating(text: str) -> int:
    """Return the rating as the official script reads it.

    It is s when the lower-cased text holds "rating: s" for exactly one s of 0 to 6, otherwise 0:
    so "Rating: 10" is 1, and "**Rating**: 5" and a text with two different ratings are 0.
    """
    found = [s for s in range(7) if f"rating: {s}" in text.lower()]
    return found[0] if len(found) == 1 else 0


def parse(text: str) -> int | None:
    """Return the rating in a reply, None when there is none from 0 to 6 or several that differ."""
    ratings: set[int | None] = set()
    for found in _RATING.finditer(text):
        scale = re.sub(r"\D", "", found["of"] or "6")
        whole = found["rating"].isdecimal() and not found["more"] and scale == "6"
        ratings.add(int(found["rating"]) if whole else None)
    rating = ratings.pop() if len(ratings) == 1 else None
    return rating if rating is not None and rating <= 6 else None


def verdict(item: Item, response: str, resources: Resources) -> dict[str, Any]:
    """Return the columns of `judged.numbers`, with `score`, `hallucinated` and `informative`.

    `score` is the rating, `hallucinated` 1 below 3, `informative` the rating without its 3 points
    for the absence of hallucinations. Besides, for the reader, `type`, `judge_prompt` (`official`
    or `mmpref`), `flawed` (rated below 3 on average), `note` and `expected`.
    """
    given = judged.texts(item, resources)
    official = [_values(judged.first(official_rating, run)) for run in given]
    strict = [_values(judged.first(parse, run)) for run in given]
    rating = judged.mean(strict, "score")
    return {
        **judged.numbers(
            official, strict, ("score", "hallucinated", "informative"), [item.truth["type"]]
        ),
        "type": item.truth["type"],
        "judge_prompt": _prompt(resources)[1],
        "flawed": rating is not None and rating < 3,
        "note": judged.note(official, strict, given, lambda values: f"{values['score']} of 6"),
        "expected": shorten(f"Reference: {item.truth['reference']}", 300),
    }


def metrics(columns: set[str]) -> dict[str, Metric]:
    """Return the metrics of both readings, the score also by question type.

    A metric is the mean over judge runs, each with the mean over its items; with several runs
    `score_deviation` is the standard deviation of the runs' means. Official numbers have two
    decimals, as printed; that of several runs are rounded after taking their mean.
    """
    runs = judged.run_count(columns)
    present = [name for name in TYPES if f"{name}/items" in columns]
    found = {}
    for reading, finish in _FINISH.items():
        mean = partial(judged.per_item, "", reading)
        for name, of_run in (
            ("score", partial(mean, "score")),
            ("hallucination_rate", partial(mean, "hallucinated")),
            ("informativeness", partial(_informativeness, reading)),
        ):
            compute = judged.over_runs(of_run, runs, finish)
            found[f"{reading}/{name}"] = Metric(
                compute, "lower" if name == "hallucination_rate" else "higher", _MEANINGS[name]
            )
        if runs > 1:
            deviation = judged.deviation_of_runs
            compute = judged.over_runs(partial(mean, "score"), runs, finish, deviation)
            found[f"{reading}/score_deviation"] = Metric(compute, None, judged.DEVIATION)
        for part in present:
            of_run = partial(judged.per_item, f"{part}/", reading, "score")
            compute = judged.over_runs(of_run, runs, finish)
            found[f"{reading}/{part}/score"] = Metric(compute, "higher", _MEANINGS["score"])
    return found


def _prompt(resources: Resources) -> tuple[str, str]:
    return judged.judge_prompt(resources, _OFFICIAL_PROMPT, "template", _OWN_PROMPT)


def _values(rating: int | None) -> judged.Values:
    if rating is None:
        return None
    hallucinated = rating < 3
    informative = rating if hallucinated else rating - 3
    return {"score": rating, "hallucinated": int(hallucinated), "informative": informative}


def _informativeness(reading: str, sums: Sums, run: int) -> Array:
    return judged.per_item("", reading, "informative", sums, run) / 3 * 100
