"""CHAIR (Rohrbach et al. 2018, arXiv 1809.02156): COCO objects that captions name but images lack.

The official reading is that of `utils/chair.py` of LisaAnne/Hallucination as it runs in `chair.py`
of Maxlinn/CHAIR-metric-standalone, which added Recall and dropped the caption metrics. The strict
reading finds the same names, but as words of the dictionary.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from mmpref.benchmarks.chair.words import Words, official_mentions, read_words
from mmpref.language.mentions import Mention
from mmpref.language.words import lemma, singular
from mmpref.records.items import Item
from mmpref.scoring.metric import Array, Metric, Sums, printed, ratio
from mmpref.scoring.resources import Resources

_WORD = re.compile(r"[^\W_]+(?:['’‐‑-][^\W_]+)*")
_HYPHEN = re.compile(r"[‐‑-]")
_APOSTROPHE = re.compile(r"['’]")


class Piece(NamedTuple):
    """A word of a text in lower case; `opens` and `closes` say where a hyphenated one ends."""

    word: str
    start: int
    end: int
    opens: bool
    closes: bool


def verdict(item: Item, response: str, resources: Resources) -> dict[str, Any]:
    """Return the counts of one caption, and its mentions in the strict reading.

    Counts: `items` (1), `objects` (classes in the image), `unparsed` (1 if the caption has no
    word), `differs` (1 if the readings find different objects), and of each reading (the official
    one's begin with `official_`) `mentions` and `hallucinated` (repeats count),
    `hallucinated_captions` (0 or 1), `covered` (classes of the image that are mentioned) and
    `words`.
    """
    words, objects = read_words(resources.folder), item.truth["objects"]
    official = [name for _, name in official_mentions(response, words, singular)]
    strict = find_mentions(response, words)
    names = [mention.name for mention in strict]
    spaced, spelled = len(response.split()), count_words(response)
    return {
        "items": 1,
        "objects": len(objects),
        **_counts("official_", official, objects, spaced),
        **_counts("", names, objects, spelled),
        "unparsed": int(spelled == 0),
        "differs": int(Counter(official) != Counter(names)),
        "flawed": not set(names) <= set(objects),
        "note": difference(official, names),
        "expected": expected(objects),
        **spans(strict, objects),
    }


def metrics(columns: set[str]) -> dict[str, Metric]:
    """Return the metrics of both readings, in percent; the official ones as printed (`%.1f`).

    CHAIRs and CHAIRi are those of the paper, empty captions included in CHAIRs; Recall is that of
    Maxlinn/CHAIR-metric-standalone. That Recall is also the recall on COCO objects of the BDHS
    study (arXiv 2407.02477) in its Appendix B.2; the one in its main text is Recall of
    `object_halbench`. Neither scorer counts `words`: the reference values are means of the number
    of words between white space, in the strict reading of words with a letter or digit. Where
    the official scorer dies of a division by zero the metric is NaN.
    """
    return {
        f"{reading}/{name}": metric
        for reading, start, digits in (("official", "official_", 1), ("strict", "", None))
        for name, metric in _metrics(start, digits).items()
    }


def percent(numerator: str, denominator: str, digits: int | None) -> Callable[[Sums], Array]:
    """Return a function to `numerator / denominator` in percent, to so many printed digits."""
    return lambda sums: finished(100 * ratio(sums[numerator], sums[denominator]), digits)


def finished(values: Array, digits: int | None) -> Array:
    """Return `values` as they are, or as printed with so many digits."""
    return values if digits is None else printed(values, digits)


def find_mentions(text: str, words: Words) -> list[Mention]:
    """Return the mentions of objects in `text` under the strict reading, in order.

    A name is found as whole words in any case, in the singular or plural (by WordNet, or by rule
    where that does not know the word). Words of a name are joined by white space or a hyphen; a
    name is not found in part of a hyphenated word ("cup-shaped"). The longest name wins. Like the
    official scorer this reads no sense and no negation: an orange shirt mentions an orange.
    """
    pieces, found, place = _pieces(text), [], 0
    while place < len(pieces):
        name = _name_at(text, pieces, place, words)
        if name is None:
            place += 1
            continue
        word, kind = words.names[name]
        if kind is not None:
            start, end = pieces[place].start, pieces[place + len(name) - 1].end
            found.append(Mention(kind, start, end, word))
        place += len(name)
    if any(mention.word == "toilet" for mention in found):
        return [mention for mention in found if mention.word != "seat"]
    return found


def count_words(text: str) -> int:
    """Return the number of words with a letter or digit; a hyphenated one is one."""
    return len(_WORD.findall(text))


def difference(official: Sequence[str], strict: Sequence[str]) -> str:
    """Return in words which classes one reading counts and the other does not, or nothing."""
    more, fewer = Counter(official) - Counter(strict), Counter(strict) - Counter(official)
    parts = [
        f"{verb} {', '.join(_times(name, number) for name, number in sorted(counts.items()))}"
        for verb, counts in (("also counts", more), ("misses", fewer))
        if counts
    ]
    return f"the official reading {' and '.join(parts)}" if parts else ""


def expected(objects: Sequence[str]) -> str:
    """Return in words what is in the image."""
    return f"in the image: {', '.join(objects) or 'none of the 80 COCO objects'}"


def spans(mentions: Iterable[Mention], objects: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the mentions of classes that are not and that are in the image, for the report."""
    found: dict[str, list[dict[str, Any]]] = {"hallucinated_mentions": [], "grounded_mentions": []}
    for mention in mentions:
        column = "grounded_mentions" if mention.name in objects else "hallucinated_mentions"
        found[column].append(mention.span)
    return found


def _pieces(text: str) -> list[Piece]:
    """Return the words of a text, those of a hyphenated one apart, without an apostrophe's rest."""
    pieces = []
    for found in _WORD.finditer(text):
        word, start = found[0], found.start()
        if word.isalnum():
            pieces.append(Piece(word.lower(), start, found.end(), True, True))
            continue
        parts = _HYPHEN.split(word)
        for number, part in enumerate(parts):
            stem = _APOSTROPHE.split(part)[0]
            last = number == len(parts) - 1
            pieces.append(Piece(stem.lower(), start, start + len(stem), number == 0, last))
            start += len(part) + 1
    return pieces


def _name_at(
    text: str, pieces: Sequence[Piece], place: int, words: Words
) -> tuple[str, ...] | None:
    """Return the longest name that begins with the piece at `place`."""
    first = pieces[place]
    if not first.opens:
        return None
    for name in words.longer.get(first.word, ()):
        if _is_at(text, pieces[place : place + len(name)], name):
            return name
    if first.closes:
        for form in _forms(first.word):
            if (form,) in words.names:
                return (form,)
    return None


def _is_at(text: str, pieces: Sequence[Piece], name: tuple[str, ...]) -> bool:
    """Return whether `pieces`, found in `text`, are a name, its last word in either number."""
    if len(pieces) < len(name) or not pieces[-1].closes or name[-1] not in _forms(pieces[-1].word):
        return False
    for first, second, word in zip(pieces, pieces[1:], name, strict=False):
        between = text[first.end : second.start]
        joined = between.isspace() if first.closes else len(between) == 1
        if first.word != word or not joined:
            return False
    return True


@lru_cache(maxsize=100_000)
def _forms(word: str) -> tuple[str, ...]:
    """Return what a word may be the singular or plural of, likeliest first.

    The word itself comes first, for "people" and "men" are words of their own; the rule last, for
    what WordNet does not know, as "smartphones".
    """
    return tuple(dict.fromkeys((word, lemma(word), singular(word))))


def _counts(start: str, names: Sequence[str], objects: Sequence[str], words: int) -> dict[str, int]:
    hallucinated = sum(name not in objects for name in names)
    return {
        f"{start}mentions": len(names),
        f"{start}hallucinated": hallucinated,
        f"{start}hallucinated_captions": int(hallucinated > 0),
        f"{start}covered": len(set(names) & set(objects)),
        f"{start}words": words,
    }


def _metrics(start: str, digits: int | None) -> dict[str, Metric]:
    return {
        "CHAIRs": Metric(
            percent(f"{start}hallucinated_captions", "items", digits),
            "lower",
            "% of captions that mention at least one object that is not in the image",
        ),
        "CHAIRi": Metric(
            percent(f"{start}hallucinated", f"{start}mentions", digits),
            "lower",
            "% of object mentions whose object is not in the image",
        ),
        "Recall": Metric(
            percent(f"{start}covered", "objects", digits),
            "higher",
            "% of the objects in the images that the captions mention",
        ),
        "words": Metric(
            lambda sums: finished(ratio(sums[f"{start}words"], sums["items"]), digits),
            None,
            "words per caption",
        ),
    }


def _times(name: str, number: int) -> str:
    return name if number == 1 else f"{name} ({number} times)"
