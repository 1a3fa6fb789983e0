"""CHAIR (Rohrbach et al. 2018, arXiv 1809.02156): COCO objects that captions name but images lack.

The official reading is that of `utils/chair.py` of LisaAnne/Hallucination as it runs in `chair.py`
of Maxlinn/CHAIR-metric-standalone, which added Recall and dropped the caption metrics. The strict
reading finds the same names, but as words of the dictionary.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from mmpref.benchmarks.chair.words import Words, official_mentions, read_words
from mmpref.language.mentions import Mention
from mmpref.language.words import lemma, singular
from mmpref.records.items import Item
from mmpref.scoring.metric import Array, Better, Metric, Sums, printed, ratio
from mmpref.scoring.resources import Resources

# By name: a factor, numerator and denominator ({} is how the reading's columns begin), what is
# better, and the meaning ({} is a caveat).
Rates = Mapping[str, tuple[int, str, str, Better, str]]

# A word, or a part of a hyphenated one: whether it continues one, its letters up to an apostrophe,
# and whether it is continued.
_PIECE = re.compile(r"((?<=[^\W_][‐‑-]))?([^\W_]+)(?:['’][^\W_]+)*((?=[‐‑-][^\W_]))?")
_JOINT = re.compile(r"\s+|[‐‑-]")

_RATES: Rates = {
    "CHAIRs": (
        *(100, "{}hallucinated_captions", "items", "lower"),
        "% of captions that mention at least one object that is not in the image",
    ),
    "CHAIRi": (
        *(100, "{}hallucinated", "{}mentions", "lower"),
        "% of object mentions whose object is not in the image",
    ),
    "Recall": (
        *(100, "{}covered", "objects", "higher"),
        "% of the objects in the images that the captions mention",
    ),
    "words": (1, "{}words", "items", None, "words per caption"),
}


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
    spelled = count_words(response)
    return {
        "items": 1,
        "objects": len(objects),
        **_counts("official_", official, objects, len(response.split())),
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
    Maxlinn/CHAIR-metric-standalone, and the recall on COCO objects in Appendix B.2 of the BDHS
    study (arXiv 2407.02477); the one in its main text is Recall of `object_halbench`. Neither
    scorer counts `words`: these are means of the number of words between white space, in the strict
    reading of words with a letter or digit. Where the official scorer dies of a division by zero
    the metric is NaN.
    """
    return rates(_RATES, "official", "official_", 1) | rates(_RATES, "strict", "", None)


def rates(
    table: Rates, reading: str, start: str, digits: int | None, caveat: str = ""
) -> dict[str, Metric]:
    """Return the metrics `READING/NAME` of a table, as printed with so many digits or exact."""

    def compute(factor: int, part: str, whole: str) -> Callable[[Sums], Array]:
        def of(sums: Sums) -> Array:
            value = factor * ratio(sums[part.format(start)], sums[whole.format(start)])
            return value if digits is None else printed(value, digits)

        return of

    return {
        f"{reading}/{name}": Metric(compute(factor, part, whole), better, meaning.format(caveat))
        for name, (factor, part, whole, better, meaning) in table.items()
    }


def find_mentions(text: str, words: Words) -> list[Mention]:
    """Return the mentions of objects in `text` under the strict reading, in order.

    A name is found as whole words in any case, in the singular or plural (by WordNet, or by rule
    where that does not know the word). Words of a name are joined by white space or a hyphen; a
    name is not found in part of a hyphenated word ("cup-shaped"). The longest name wins. Like the
    official scorer this reads no sense and no negation: an orange shirt mentions an orange.
    """
    pieces, found, place = list(_PIECE.finditer(text)), [], 0
    longest = max(map(len, words.names))
    while place < len(pieces):
        name = _name_at(text, pieces[place : place + longest], words)
        if name:
            word, kind = words.names[name]
            if kind is not None:
                start, end = pieces[place].start(2), pieces[place + len(name) - 1].end(2)
                found.append(Mention(kind, start, end, word))
        place += len(name) or 1
    toilet = any(mention.word == "toilet" for mention in found)
    return [mention for mention in found if not (toilet and mention.word == "seat")]


def count_words(text: str) -> int:
    """Return the number of words with a letter or digit; a hyphenated one is one."""
    return sum(piece[1] is None for piece in _PIECE.finditer(text))


def difference(official: Sequence[str], strict: Sequence[str]) -> str:
    """Return in words which classes one reading counts and the other does not, or nothing."""
    one, other = Counter(official), Counter(strict)
    parts = []
    for verb, counts in (("also counts", one - other), ("misses", other - one)):
        names = [name if n == 1 else f"{name} ({n} times)" for name, n in sorted(counts.items())]
        parts += [f"{verb} {', '.join(names)}"] if names else []
    return f"the official reading {' and '.join(parts)}" if parts else ""


def expected(objects: Sequence[str]) -> str:
    """Return in words what is in the image."""
    return f"in the image: {', '.join(objects) or 'none of the 80 COCO objects'}"


def spans(mentions: Sequence[Mention], objects: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the mentions of classes that are not and that are in the image, for the report."""
    return {
        "hallucinated_mentions": [one.span for one in mentions if one.name not in objects],
        "grounded_mentions": [one.span for one in mentions if one.name in objects],
    }


def _name_at(text: str, pieces: Sequence[re.Match[str]], words: Words) -> tuple[str, ...]:
    """Return the longest name that begins with the first piece; its last word in either number."""
    name: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    for number, piece in enumerate(pieces):
        gap = (pieces[number - 1].end(2), piece.start())
        if not (_JOINT.fullmatch(text, *gap) if number else piece[1] is None):
            break
        word = piece[2].lower()
        if piece[3] is None:
            forms = ((*before, form) for form in _forms(word))
            name = next((form for form in forms if form in words.names), name)
        before += (word,)
    return name


@lru_cache(maxsize=100_000)
def _forms(word: str) -> tuple[str, ...]:
    """Return what a word may be the singular or plural of, likeliest first.

    The word itself comes first, for "people" and "men" are words of their own; the rule last, for
    what WordNet does not know, as "smartphones".
    """
    return word, lemma(word), singular(word)


def _counts(start: str, names: Sequence[str], objects: Sequence[str], words: int) -> dict[str, int]:
    hallucinated = sum(name not in objects for name in names)
    return {
        f"{start}mentions": len(names),
        f"{start}hallucinated": hallucinated,
        f"{start}hallucinated_captions": int(hallucinated > 0),
        f"{start}covered": len(set(names) & set(objects)),
        f"{start}words": words,
    }
