"""Object hallucination in captions: CHAIR, Cover, Cog."""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from mmpref.evaluation.items import Item
from mmpref.evaluation.resources import Resources
from mmpref.evaluation.scorers.open_ended import form
from mmpref.evaluation.scorers.open_ended import metrics as form_metrics
from mmpref.evaluation.statistics import Metric, ratio

_IRREGULAR_PLURALS = {
    "calf": "calves",
    "child": "children",
    "foot": "feet",
    "goose": "geese",
    "knife": "knives",
    "leaf": "leaves",
    "loaf": "loaves",
    "man": "men",
    "mouse": "mice",
    "person": "people",
    "scarf": "scarves",
    "shelf": "shelves",
    "tooth": "teeth",
    "wolf": "wolves",
    "woman": "women",
}

_METRICS = {
    # AMBER's Hal (arXiv 2311.07397) is the same number under another name.
    "CHAIRs": Metric(
        lambda sums: ratio(sums["hallucinated_answers"], sums["items"]),
        "lower",
        "share of answers that mention at least one object that is not in the image",
    ),
    "CHAIRi": Metric(
        lambda sums: ratio(sums["hallucinated"], sums["mentions"]),
        "lower",
        "share of object mentions whose object is not in the image",
    ),
    "Cover": Metric(
        lambda sums: ratio(sums["covered"], sums["objects"]),
        "higher",
        "share of the objects in the images that the answers mention",
    ),
    "Cog": Metric(
        lambda sums: ratio(sums["likely_mentioned"], sums["likely"]),
        "lower",
        "share of the likely but absent objects that the answers mention",
    ),
}


class Mention(NamedTuple):
    """The object called `name`, mentioned in characters `start` to `end` of a text."""

    name: str
    start: int
    end: int


def find_mentions(text: str, vocabulary: tuple[str, ...]) -> list[Mention]:
    """Return the mentions of object names in `text`, in order, without overlap.

    A name is found in its singular and plural, in any case, as whole words (`cup` is neither in
    `cupboard` nor in `cup-shaped`); the words of a longer name may be joined by a hyphen. Where
    several names start at one place, the longest wins: `dining table` is not also a `table`. A
    negated name is a mention too, as in CHAIR.
    """
    pattern, names = _pattern(vocabulary)
    if not names:
        return []
    return [
        Mention(names[_normal(found[0])], found.start(), found.end())
        for found in pattern.finditer(_lower(text))
    ]


def verdict(item: Item, response: str, resources: Resources) -> dict[str, Any]:
    """Return the counts of one caption, and its mentions.

    Counts: `items` (1), `hallucinated_answers` (0 or 1), `hallucinated` and `mentions` (repeats
    count), `covered` of `objects`, `likely_mentioned` of `likely` (both distinct), `words` and
    `empty`. `hallucinated_mentions` and `grounded_mentions` are lists of
    `{name, start, end}`. An object is hallucinated when it is not among the item's `objects`.
    For the reader: `flawed`, `note` and `expected`.
    """
    objects, likely = set(item.truth["objects"]), set(item.truth["likely"])
    mentions = find_mentions(response, tuple(item.truth["vocabulary"]))
    named = {mention.name for mention in mentions}
    hallucinated = [mention._asdict() for mention in mentions if mention.name not in objects]
    return {
        **form(response),
        "hallucinated_answers": int(bool(hallucinated)),
        "hallucinated": len(hallucinated),
        "mentions": len(mentions),
        "covered": len(objects & named),
        "objects": len(objects),
        "likely_mentioned": len(likely & named),
        "likely": len(likely),
        "hallucinated_mentions": hallucinated,
        "grounded_mentions": [mention._asdict() for mention in mentions if mention.name in objects],
        "flawed": bool(hallucinated),
        "note": "" if response.strip() else "no answer",
        "expected": f"In the image: {', '.join(item.truth['objects']) or 'no known object'}",
    }


def metrics(columns: set[str]) -> dict[str, Metric]:
    """Return the metrics by name.

    CHAIRs and CHAIRi are those of Rohrbach et al. 2018 (arXiv 1809.02156), with empty captions in
    the denominator of CHAIRs; Cover and Cog those of AMBER (arXiv 2311.07397), summed over items.
    The form of the answers is measured as that of open ones.
    """
    return _METRICS | form_metrics(columns)


@lru_cache(maxsize=64)
def _pattern(vocabulary: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    """Return a pattern of every form of every name, longest first, and the name of each form."""
    names: dict[str, str] = {}
    for name in vocabulary:
        for plural in _plurals(_normal(_lower(name))):
            names[plural] = name
    # A name as it stands beats the plural of another: "glasses" are not several of "glass".
    names.update({_normal(_lower(name)): name for name in vocabulary})
    forms = sorted(names, key=len, reverse=True)
    alternatives = "|".join(re.escape(form).replace(r"\ ", r"[\s-]+") for form in forms)
    return re.compile(rf"(?<!\w)(?<!\w-)(?:{alternatives})(?!\w)(?!-\w)"), names


def _plurals(name: str) -> list[str]:
    """Return the forms an English plural of `name` may take; some may be no words."""
    before, space, noun = name.rpartition(" ")
    forms = [f"{noun}s"]
    if noun in _IRREGULAR_PLURALS:
        forms.append(_IRREGULAR_PLURALS[noun])
    if noun.endswith(("s", "x", "z", "ch", "sh", "o")):
        forms.append(f"{noun}es")
    if re.search(r"[^aeiou]y\Z", noun):
        forms.append(f"{noun[:-1]}ies")
    return [f"{before}{space}{form}" for form in forms]


def _normal(form: str) -> str:
    """Return `form` with single spaces between its words."""
    return re.sub(r"[\s-]+", " ", form.strip())


def _lower(text: str) -> str:
    """Return `text` in lower case, of unchanged length, so that positions stay valid."""
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)
