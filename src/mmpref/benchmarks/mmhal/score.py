"""MMHal-Bench (arXiv 2309.14525): a judge rates each answer from 0 to 6.

Official: `eval_gpt4.py` of the benchmark, in public as `Eval/eval_gpt_mmhal.py` of
llava-rlhf/LLaVA-RLHF; informativeness is that of `eval/summarize_gpt_mmhal_review.py` of
RLHF-V/RLHF-V. With the image judge it is MMHALBench-V of the BDHS paper (arXiv 2407.02477): same
prompt, scale and data, and the judge sees the image.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

from mmpref.benchmarks.mmhal.items import TYPES
from mmpref.errors import InputError
from mmpref.records.items import Item, load_image
from mmpref.scoring import judged
from mmpref.scoring.judge import Call, image_part
from mmpref.scoring.metric import printed
from mmpref.scoring.resources import Resources

_OFFICIAL_PROMPT = ("eval_gpt4.py", "eval_gpt_mmhal.py")
_prompt = partial(
    judged.judge_prompt,
    files=_OFFICIAL_PROMPT,
    name="template",
    own=Path(__file__).with_name("judge.txt"),
)
# The official script sets no limit; explanations are a few sentences.
_MAX_TOKENS = 1024

_RATING = re.compile(
    r"\brating\b[\s*_`]*(?:\(0\s*[-–—]\s*6\))?[\s*_`:=(\[\"']*"
    r"(?P<rating>[-–]?\d+(?:\.\d+)?)[*_`\"')\]]*"
    r"(?P<of>[ \t]*(?:/|out[ \t]+of)[ \t]*\d+)?"
    r"(?P<more>[ \t]*(?:[-–—/]|or|to|and)[ \t]*\d)?",
    re.IGNORECASE,
)


def calls(item: Item, response: str, resources: Resources) -> list[Call]:
    """Return the calls that rate a response.

    Raises InputError when the judge sees the image and the item has none, or the benchmark's own
    prompt file is another one.
    """
    template, whose = _prompt(resources)
    places = template.count("{}")
    if places != 4:
        raise InputError(
            f"MMHal-Bench: the {whose} prompt has {places} places {{}} to fill in, not 4; download "
            f"{' or '.join(_OFFICIAL_PROMPT)} again"
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
    return judged.calls(item, resources, [{"role": "user", "content": content}], _MAX_TOKENS)


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


def _values(rating: int) -> judged.Values:
    hallucinated = rating < 3
    # Without the 3 points for the absence of hallucinations.
    informative = rating if hallucinated else rating - 3
    return {"score": rating, "hallucinated": int(hallucinated), "informative": informative}


_SCORE = judged.Measure(
    lambda mean: mean("score"), "higher", "mean rating of the answers by the judge, 0 to 6"
)
_SCALE = judged.Scale(
    official=partial(judged.first, official_rating),
    strict=parse,
    names=("score", "hallucinated", "informative"),
    values=_values,
    parts=lambda item: [item.truth["type"]],
    about=lambda item, resources: {
        "type": item.truth["type"],
        "judge_prompt": _prompt(resources)[1],
    },
    is_flawed=lambda mean: mean["score"] < 3,
    show=lambda values: f"{values['score']} of 6",
    measures={
        "score": _SCORE,
        "hallucination_rate": judged.Measure(
            lambda mean: mean("hallucinated"),
            "lower",
            "share of answers rated below 3: with a hallucination",
        ),
        "informativeness": judged.Measure(
            lambda mean: mean("informative") / 3 * 100,
            "higher",
            "mean rating regardless of hallucinations, in percent of the best",
        ),
        "score_deviation": judged.deviation(_SCORE),
        **{f"{part}/score": _SCORE for part in TYPES},
    },
    # As printed, after the mean over several runs is taken.
    rounded=partial(printed, digits=2),
)
verdict, metrics = _SCALE.verdict, _SCALE.metrics
