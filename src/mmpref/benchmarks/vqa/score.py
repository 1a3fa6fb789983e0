"""VQAv2 and TextVQA: open answers held against those of ten people (arXiv 1505.00468).

Official for VQAv2 is `vqaEval.py` of GT-Vision-Lab/VQA, for TextVQA the evaluator of M4C as in
`llava/eval/m4c_evaluator.py` and `eval_textvqa.py` of LLaVA.
"""

import re
from collections import Counter
from functools import lru_cache
from typing import Any

from mmpref.benchmarks.vqa.items import PEOPLE
from mmpref.records.items import Item
from mmpref.scoring.metric import Array, Metric, Sums, printed, ratio
from mmpref.scoring.resources import Resources

# Leaving out each person in turn, an answer scores min(1, matches among the other nine / 3) on
# average; in tenths, by the number of people who answer so.
_TENTHS = (0, 3, 6, 9, 10)

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0", **{word: str(number) for number, word in enumerate(_DIGITS)}}
_ARTICLES = ("a", "an", "the")
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't
    mightn't've must've mustn't needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
    what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
    why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll
    you're you've
"""
# These too are meant to be in the official list, but an entry is turned round, keeps the apostrophe
# or has a capital letter, which no lower-cased word has.
_MEANT = "i'd've i'm i've let's she's somebody'd"


def _repairs(contractions: str) -> dict[str, str]:
    """Return each contraction by what it is with one of its apostrophes missing."""
    return {
        word[:place] + word[place + 1 :]: word
        for word in contractions.split()
        for place, letter in enumerate(word)
        if letter == "'"
    }


_OFFICIAL_REPAIRS = _repairs(_CONTRACTIONS) | {"somebody'd": "somebodyd"}
_STRICT_REPAIRS = _repairs(_CONTRACTIONS + _MEANT)
_SPACES = str.maketrans(dict.fromkeys(_PUNCTUATION, " "))


def verdict(item: Item, response: str, resources: Resources) -> dict[str, Any]:
    """Return the accuracy of one answer, overall and under `ANSWER-TYPE/` where that is known.

    `items` (1), `official_tenths` and `strict_tenths` (accuracy, 0 to 10), `unparsed` (nothing is
    left of the answer after normalisation) and `differs`.
    """
    answers = item.truth["answers"]
    count = _m4c_matches if item.truth["version"] == "textvqa" else _vqav2_matches
    official = _tenths(count(answers, response))
    answer = normalised(response)
    matches = [normalised(one) for one in answers].count(answer) if answer else 0
    strict = _tenths(matches)
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


def metrics(columns: set[str]) -> dict[str, Metric]:
    """Return the accuracy of both readings in percent, also for each type of answer.

    The official one is rounded to the two decimals that are printed.
    """
    parts = ["", *sorted(name.removesuffix("items") for name in columns if name.endswith("/items"))]
    found = {}
    for part in parts:

        def official(sums: Sums, part: str = part) -> Array:
            return printed(ratio(10 * sums[f"{part}official_tenths"], sums[f"{part}items"]), 2)

        def strict(sums: Sums, part: str = part) -> Array:
            return ratio(10 * sums[f"{part}strict_tenths"], sums[f"{part}items"])

        meaning = "percent agreement with the answers of ten people, full from four on"
        found[f"official/{part}accuracy"] = Metric(official, "higher", meaning)
        found[f"strict/{part}accuracy"] = Metric(strict, "higher", meaning)
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


def _tenths(matches: int) -> int:
    return _TENTHS[min(matches, len(_TENTHS) - 1)]


def _vqav2_matches(answers: list[str], response: str) -> int:
    """Return how many answers match in `vqaEval.py`, which takes unanimous ones as they are."""
    answers, response = [_line(answer) for answer in answers], _line(response)
    if len(set(answers)) > 1:
        answers, response = [_official(answer) for answer in answers], _official(response)
    return answers.count(response)


def _m4c_matches(answers: list[str], response: str) -> int:
    """Return how many answers match in `m4c_evaluator.py`, which normalises all of them."""
    return [_m4c(answer) for answer in answers].count(_m4c(response))


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
    for periods, `(?!<=\\d)(\\.)(?!\\d)`, looks for "<=" where it is meant to look behind, which
    never stands there, so that it removes every period not followed by a digit; and it is given
    re.UNICODE, 32, for the number of periods to remove. Python 2 and 3 agree, except that `\\d`
    is only 0 to 9 in Python 2.
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
