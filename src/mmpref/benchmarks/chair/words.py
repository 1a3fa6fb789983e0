"""The names of COCO's objects as CHAIR lists them, and how its scorer finds them in a caption."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mmpref.errors import InputError
from mmpref.language.words import tokens

SYNONYMS = "synonyms.txt"

# Pairs of words that the official scorer takes for one word. It never sees three at once.
_DOUBLES = (
    *("motor bike", "motor cycle", "air plane", "traffic light", "street light", "traffic signal"),
    *("stop light", "fire hydrant", "stop sign", "parking meter", "suit case", "sports ball"),
    *("baseball bat", "baseball glove", "tennis racket", "wine glass", "hot dog", "cell phone"),
    *("mobile phone", "teddy bear", "hair drier", "potted plant", "bow tie", "laptop computer"),
    "stove top oven",
)
# "plate" and "train" in these are not objects.
NO_OBJECTS = ("home plate", "train track")
# "baby" and "passenger" alone are persons.
_QUALIFIED = {
    ("baby", "adult"): (
        *("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"),
        *("animal", "cub"),
    ),
    ("passenger",): ("jet", "train"),
}
# The classes whose names all stand for what they qualify in the strict reading.
_QUALIFIED_CLASSES = {
    ("baby", "adult"): _QUALIFIED["baby", "adult"][:-2],
    ("passenger",): ("airplane", "boat", "bus", "car", "train"),
}


@dataclass(frozen=True, eq=False)
class Words:
    """A list of synonyms, as the two readings use it.

    Official: `classes` maps names to classes, `doubles` pairs of words to the word they count as.
    Strict: `names` maps the words of a name to the name it counts as and its class (None: no
    object), `longer` the first word of a name of several words to these names, longest first.
    """

    classes: Mapping[str, str]
    doubles: Mapping[str, str]
    names: Mapping[tuple[str, ...], tuple[str, str | None]]
    longer: Mapping[str, Sequence[tuple[str, ...]]]


def read_words(folder: Path | None) -> Words:
    """Return the synonyms in `folder`. Raises InputError when there are none."""
    if folder is None:
        raise InputError(f"CHAIR: no folder with {SYNONYMS} is given; name the benchmark's data")
    return _words(folder / SYNONYMS)


@cache
def _words(path: Path) -> Words:
    classes = read_classes(path)
    return make_words(classes, (*_DOUBLES, *NO_OBJECTS))


def read_classes(path: Path) -> dict[str, str]:
    """Return the class of each name in a list of synonyms, names as the official scorer has them.

    A line is a class and its names, separated by a comma and one space; in CHAIR's list two names
    begin with a second space. Raises InputError when it is another file.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); put the benchmark's list there"
        ) from None
    rows = [line.strip().split(", ") for line in lines if line.strip()]
    classes = {name: row[0] for row in rows for name in row}
    if classes.get("woman") != "person" or classes.get("sofa") != "couch":
        raise InputError(f"{path}: is not a list of COCO's synonyms; put the benchmark's own there")
    return classes


def make_words(classes: Mapping[str, str], doubles: Iterable[str]) -> Words:
    """Return what both readings need of names with their classes and the official two-word names.

    In the strict reading every name of an animal may follow "baby" or "adult", every name of an
    aeroplane, boat, bus, car or train "passenger"; officially only the listed ones.
    """
    merged = {double: double for double in doubles}
    for qualifiers, nouns in _QUALIFIED.items():
        merged.update({f"{first} {noun}": noun for first in qualifiers for noun in nouns})
    merged |= {"bow tie": "tie", "toilet seat": "toilet", "wine glas": "wine glass"}

    names: dict[tuple[str, ...], tuple[str, str | None]] = {}
    for phrase in (*NO_OBJECTS, "animal", "cub"):
        names[tuple(phrase.split())] = (phrase, None)
    for name, kind in classes.items():
        # Lower case, for "iPhone"; split, for the names with a space in front.
        parts = tuple(name.lower().split())
        names[parts] = (" ".join(parts), kind)
    for qualifiers, kinds in _QUALIFIED_CLASSES.items():
        qualified = [parts for parts, (_, kind) in names.items() if kind in kinds]
        for parts in (*qualified, *([("animal",), ("cub",)] if "baby" in qualifiers else [])):
            names.update({(first, *parts): names[parts] for first in qualifiers})
    names["bow", "tie"], names["toilet", "seat"] = ("tie", "tie"), ("toilet", "toilet")
    longer: dict[str, list[tuple[str, ...]]] = {}
    for parts in sorted(names, key=len, reverse=True):
        if len(parts) > 1:
            longer.setdefault(parts[0], []).append(parts)
    return Words(classes, merged, names, longer)


def official_mentions(
    caption: str, words: Words, base: Callable[[str], str]
) -> list[tuple[str, str]]:
    """Return the names in a caption with their classes, as the official word rule finds them.

    `base` maps a token to its singular. Tokens are those of the caption in lower case; listed
    pairs of them become one; "seat" does not count beside "toilet". What does not match a name to
    the letter is not found: "bus" ("bu"), "ties" ("ty"), "dining-table", " motor bike".
    """
    found = [word for word, _ in merge([base(token) for token in tokens(caption.lower())], words)]
    return classified(found, words)


def merge(found: Sequence[str], words: Words) -> list[tuple[str, bool]]:
    """Return the words with the official pairs made one, and whether each was a pair."""
    merged, place = [], 0
    while place < len(found):
        pair = words.doubles.get(" ".join(found[place : place + 2]))
        merged.append((found[place], False) if pair is None else (pair, True))
        place += 1 if pair is None else 2
    return merged


def classified(found: Sequence[str], words: Words) -> list[tuple[str, str]]:
    """Return those words that are names, with their classes; no "seat" beside "toilet"."""
    toilet = "toilet" in found
    return [
        (word, words.classes[word])
        for word in found
        if word in words.classes and not (toilet and word == "seat")
    ]
