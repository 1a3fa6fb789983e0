"""VQAv2 and TextVQA: open answers held against those of ten people (arXiv 1505.00468).

Official are `vqaEval.py` of GT-Vision-Lab/VQA, and for TextVQA LLaVA's `m4c_evaluator.py`.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

from mmpref.benchmarks.vqa.items import PEOPLE
from mmpref.records.items import Item
from mmpref.scoring.metric import READINGS, Array, Metric, Sums, printed, ratio
from mmpref.scoring.resources import Resources

# Leaving out each person in turn, an answer scores min(1, matches among the other nine / 3) on
# average; in tenths, by the number of people who answer so.
_TENTHS = (0, 3, 6, 9, *[10] * 7)

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0", **{word: str(number) for number, word in enumerate(_DIGITS)}}
_ARTICLES = ("a", "an", "the")
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_CONTRACTIONS = Path(__file__).with_name("contractions.txt").read_text(encoding="utf-8")
# Meant to be in the official list, where an entry is turned round or has a capital letter.
_MEANT = "i'd've i'm i've let's she's somebody'd"


def _repairs(contractions: str) -> dict[str, str]:
    # By what a contraction is with one of its apostrophes missing.
    return {
        word[:place] + word[place + 1 :]: word
        for word in contractions.split()
        for place, letter in enumerate(word)
        if letter == "'"
    }


_OFFICIAL_REPAIRS = _repairs(_CONTRACTIONS) | {"somebody'd": "somebodyd"}
_STRICT_REPAIRS = _repairs(f"{_CONTRACTIONS} {_MEANT}")
_SPACES = str.maketrans(dict.fromkeys(_PUNCTUATION, " "))


def verdict(item: Item, response: str, resources: Resources) -> dict[str, Any]:
    """Return the accuracy of one answer, overall and under `ANSWER-TYPE/` where that is known.

    `items` (1), `official_tenths` and `strict_tenths` (accuracy, 0 to 10), `unparsed` (nothing is
    left of the answer after normalisation) and `differs`.
    """
    answers, answer = item.truth["answers"], normalised(response)
    matches = [normalised(one) for one in answers].count(answer) if answer else 0
    official = _TENTHS[_official_matches(item.truth["version"], answers, response)]
    strict = _TENTHS[matches]
    counts = {
        "items": 1,
        "official_tenths": official,
        "strict_tenths": strict,
        "unparsed": int(not answer),
        "differs": int(official != strict),
    }
    note = f"the answer of {matches} in {PEOPLE} people" if answer else "no answer"
    part = item.truth.get("answer_type", "").replace("/", "-")
    return {
        **counts,
        **{f"{part}/{name}": number for name, number in counts.items() if part},
        "flawed": strict == 0,
        "expected": ", ".join(
            f"{one} ({times})" if times < PEOPLE else one
            for one, times in Counter(answers).most_common(3)
        ),
        "note": f"{note} (official: {10 * official} %)" if official != strict else note,
    }


def metrics(
    columns: set[str],
    column: str = "tenths",
    percent: Callable[[Array, Array], Array] = lambda tenths, items: ratio(10 * tenths, items),
    meaning: str = "percent agreement with the answers of ten people, full from four on",
) -> dict[str, Metric]:
    """Return the accuracy of both readings in percent, also of each part (type of answer).

    `percent` is that of the sums of a reading's `column` and of `items`; of the official one the
    two decimals are left that are printed. A `{}` in `meaning` is the part.
    """
    parts = ["", *sorted(name.removesuffix("items") for name in columns if name.endswith("/items"))]
    found = {}
    for part, reading in product(parts, READINGS):

        def compute(sums: Sums, part: str = part, reading: str = reading) -> Array:
            value = percent(sums[f"{part}{reading}_{column}"], sums[f"{part}items"])
            return printed(value, 2) if reading == "official" else value

        about = meaning.format(part.strip("/") or "all")
        found[f"{reading}/{part}accuracy"] = Metric(compute, "higher", about)
    return found


@lru_cache(maxsize=300_000)
def normalised(text: str) -> str:
    """Return an answer as the evaluation page of VQA (visualqa.org) says it is normalised.

    In lower case; without periods, except before a digit, and commas between digits; other
    punctuation a space, except apostrophes and colons; number words as digits; without articles,
    unless there is nothing else ("a" may be the letter); contractions with their apostrophes.
    """
    text = re.sub(r"(?<=\d),(?=\d)|\.(?!\d)", "", text.lower()).translate(_SPACES)
    words = [_NUMBERS.get(word, word) for word in text.split()]
    words = [word for word in words if word not in _ARTICLES] or words
    return " ".join(_STRICT_REPAIRS.get(word, word) for word in words)


def _official_matches(version: str, answers: list[str], response: str) -> int:
    normal = _m4c if version == "textvqa" else _line
    *answers, response = map(normal, (*answers, response))
    # `vqaEval.py` takes unanimous answers as they are.
    if version == "vqav2" and len(set(answers)) > 1:
        *answers, response = map(_official, (*answers, response))
    return answers.count(response)


@lru_cache(maxsize=300_000)
def _m4c(text: str) -> str:
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    return _official(_line(text))


def _line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=300_000)
def _official(text: str) -> str:
    """Return an answer as `processPunctuation` and `processDigitArticle` of `vqaEval.py` leave it.

    Unlike what is documented, a punctuation mark becomes nothing instead of a space, everywhere in
    the answer, if it is next to a space somewhere, or if any comma is between digits. The pattern
    for periods, `(?!<=\\d)(\\.)(?!\\d)`, was meant to look behind and does not: it removes every
    period not followed by a digit; and it is given re.UNICODE, 32, for the number of those.
    """
    comma = re.search(r"\d,\d", text)
    result = text
    for mark in _PUNCTUATION:
        apart = comma or f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if apart else " ")
    result = re.sub(r"\.(?!\d)", "", result, count=32)
    words = [_NUMBERS.get(word, word) for word in result.lower().split()]
    words = [word for word in words if word not in _ARTICLES]
    return " ".join(_OFFICIAL_REPAIRS.get(word, word) for word in words)
