"""The names of COCO's objects as CHAIR lists them, and how its scorer finds them in a caption."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mmpref.errors import InputError
from mmpref.language.words import tokens

# Pairs of words that the official scorer takes for one word. It never sees three at once.
_DOUBLES = (
    *("motor bike", "motor cycle", "air plane", "traffic light", "street light", "traffic signal"),
    *("stop light", "fire hydrant", "stop sign", "parking meter", "suit case", "sports ball"),
    *("baseball bat", "baseball glove", "tennis racket", "wine glass", "hot dog", "cell phone"),
    *("mobile phone", "teddy bear", "hair drier", "potted plant", "bow tie", "laptop computer"),
    "stove top oven",
)
# "plate" and "train" in these are not objects.
_NO_OBJECTS = ("home plate", "train track")
_ANIMALS = (
    *("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"),
    *("animal", "cub"),
)
# Alone "baby" and "passenger" are persons. After each: the words that officially may follow it, and
# the classes of which every name may in the strict reading.
_QUALIFIED = {
    "baby": (_ANIMALS, _ANIMALS),
    "adult": (_ANIMALS, _ANIMALS),
    "passenger": (("jet", "train"), ("airplane", "boat", "bus", "car", "train")),
}


@dataclass(frozen=True, eq=False)
class Words:
    """A list of synonyms, as the two readings use it.

    Official: `classes` maps names to classes, `doubles` pairs of words to the word they count as.
    Strict: `names` maps the words of a name to the name it counts as and its class (None: no
    object).
    """

    classes: Mapping[str, str]
    doubles: Mapping[str, str]
    names: Mapping[tuple[str, ...], tuple[str, str | None]]


@cache
def read_words(folder: Path | None) -> Words:
    """Return CHAIR's synonyms in `folder`. Raises InputError when there are none."""
    return make_words(read_classes(folder, "synonyms.txt"), _DOUBLES)


def read_classes(folder: Path | None, file: str) -> dict[str, str]:
    """Return the class of each name in a list of synonyms, names as the official scorer has them.

    A line is a class and its names, separated by a comma and one space; in CHAIR's list two names
    begin with a second space. Raises InputError when it is another file.
    """
    if folder is None:
        raise InputError(f"no folder with {file} is given; name the benchmark's data")
    path = folder / file
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
    """Return what both readings need of names with their classes and the official doubles."""
    merged = {double: double for double in (*doubles, *_NO_OBJECTS)}
    plain: dict[tuple[str, ...], tuple[str, str | None]] = {
        tuple(name.split()): (name, None) for name in (*_NO_OBJECTS, "animal", "cub")
    }
    for name, kind in classes.items():
        # Lower case, for "iPhone"; split, for the names with a space in front.
        parts = tuple(name.lower().split())
        plain[parts] = (" ".join(parts), kind)
    names = dict(plain)
    for first, (nouns, kinds) in _QUALIFIED.items():
        merged |= {f"{first} {noun}": noun for noun in nouns}
        names |= {
            (first, *parts): one for parts, one in plain.items() if (one[1] or one[0]) in kinds
        }
    merged |= {"bow tie": "tie", "toilet seat": "toilet", "wine glas": "wine glass"}
    names |= {("bow", "tie"): ("tie", "tie"), ("toilet", "seat"): ("toilet", "toilet")}
    return Words(classes, merged, names)


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
    left_out = "seat" if "toilet" in found else None
    return [
        (word, words.classes[word]) for word in found if word in words.classes and word != left_out
    ]
