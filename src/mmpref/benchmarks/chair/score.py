"""CHAIR (Rohrbach et al. 2018, arXiv 1809.02156): COCO objects that captions name but images lack.

The official reading is that of `utils/chair.py` of LisaAnne/Hallucination as it runs in `chair.py`
of Maxlinn/CHAIR-metric-standalone, which added Recall and dropped the caption metrics. The strict
reading finds the same names, but as words of the dictionary.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from mmpref.errors import InputError
from mmpref.language.words import lemma, singular, tokens
from mmpref.records.items import Item
from mmpref.scoring.resources import Resources
from mmpref.scoring.statistics import Array, Metric, Sums, printed, ratio

PROMPT = "Please describe this image in detail."
SUBSET = "coco2014_gt_objects_subset.json"
SYNONYMS = "synonyms.txt"

# Pairs of words that the official scorer takes for one word. It never sees three at once.
_DOUBLES = (
    *("motor bike", "motor cycle", "air plane", "traffic light", "street light", "traffic signal"),
    *("stop light", "fire hydrant", "stop sign", "parking meter", "suit case", "sports ball"),
    *("baseball bat", "baseball glove", "tennis racket", "wine glass", "hot dog", "cell phone"),
    *("mobile phone", "teddy bear", "hair drier", "potted plant", "bow tie", "laptop computer"),
    "stove top oven",
)
# "plate" and "train" in these are no objects.
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

_WORD = re.compile(r"[^\W_]+(?:['’‐‑-][^\W_]+)*")
_HYPHEN = re.compile(r"[‐‑-]")
_APOSTROPHE = re.compile(r"['’]")
_IMAGE_ID = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d+)(?:\.(?:jpe?g|png))?")
_KEPT = {"images", "annotations", "categories", "id", "image_id", "category_id", "name"}


class Mention(NamedTuple):
    """The class `name`, mentioned as `word` in characters `start` to `end` of a text."""

    name: str
    word: str
    start: int
    end: int


class Piece(NamedTuple):
    """A word of a text in lower case; `opens` and `closes` say where a hyphenated one ends."""

    word: str
    start: int
    end: int
    opens: bool
    closes: bool


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


def image_id(text: str | int) -> str:
    """Return the id of a COCO image as in `Item.id`: digits without zeros in front.

    It is given as a number or a file name, such as `COCO_val2014_000000040468.jpg`.

    Raises InputError when it is neither.
    """
    found = _IMAGE_ID.fullmatch(Path(str(text).strip()).name)
    if not found:
        raise InputError(
            f"image_id: {text!r} is no COCO image; write its number or its file name, "
            "such as 40468 or COCO_val2014_000000040468.jpg"
        )
    return str(int(found[1]))


def image_ids(folder: Path) -> list[str]:
    """Return the ids of COCO's val2014 images by number, or without annotations of the subset's.

    `folder` is that of `items`. Raises InputError when it has neither.
    """
    _, captions = _annotations(folder, "val")
    if captions.is_file():
        ids = {str(id) for (id,) in _rows(captions, _read_json(captions), "images", "id")}
    else:
        ids = set(_of_subset(folder, None))
    return sorted(ids, key=int)


def items(folder: Path, images: Collection[str] | None = None) -> list[Item]:
    """Return one item per COCO 2014 image, of those in `images` (ids) if given, by number.

    `folder` holds `synonyms.txt` and COCO's `annotations/instances_{train,val}2014.json` and
    `annotations/captions_{train,val}2014.json` of one or both splits, or instead of these
    `coco2014_gt_objects_subset.json` (id to classes). An image's objects are the classes of its
    instances and those that the official word rule finds in its reference captions; that rule
    takes about 0.15 ms per reference caption, so name the images where they are few.

    Raises InputError when files are missing or foreign, or an image is not in them.
    """
    words = read_words(folder)
    truths = ground_truth(folder, images, words, singular)
    return [
        Item(id, (), PROMPT, {"kind": "chair", "image": image, "objects": objects})
        for id, (image, objects) in truths.items()
    ]


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
    begin with a second space. Raises InputError when it is no such file.
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
        raise InputError(f"{path}: is no list of COCO's synonyms; put the benchmark's own there")
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
            found.append(Mention(kind, word, start, end))
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
    for name, _, start, end in mentions:
        column = "grounded_mentions" if name in objects else "hallucinated_mentions"
        found[column].append({"name": name, "start": start, "end": end})
    return found


def ground_truth(
    folder: Path, images: Collection[str] | None, words: Words, base: Callable[[str], str]
) -> dict[str, tuple[str, list[str]]]:
    """Return by image id, in order of number, the image's file name and its classes, sorted.

    Without COCO's annotations in `folder` they come from the subset, and the id stands for the
    file name. Raises InputError as `items` does.
    """
    splits = [
        split
        for split in ("train", "val")
        if any(path.is_file() for path in _annotations(folder, split))
    ]
    wanted = None if images is None else {image_id(image) for image in images}
    if splits:
        truths: dict[str, tuple[str, list[str]]] = {}
        for split in splits:
            truths |= _of_split(*_annotations(folder, split), wanted, words, base)
    else:
        truths = _of_subset(folder, wanted)
    missing = sorted((wanted or set()) - truths.keys(), key=int)
    if missing:
        raise InputError(
            f"{folder}: no ground truth for {len(missing)} images ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}); put COCO's instances and captions of the "
            "split they are from (train2014, val2014) into annotations/ there"
        )
    return {id: truths[id] for id in sorted(truths, key=int)}


def _annotations(folder: Path, split: str) -> tuple[Path, Path]:
    """Return where the instances and the captions of a split are."""
    annotations = folder / "annotations"
    return annotations / f"instances_{split}2014.json", annotations / f"captions_{split}2014.json"


def _of_split(
    instances: Path,
    captions: Path,
    wanted: set[str] | None,
    words: Words,
    base: Callable[[str], str],
) -> dict[str, tuple[str, list[str]]]:
    truths: dict[str, tuple[str, set[str]]] = {}
    content = _read_json(captions)
    for id, name in _rows(captions, content, "images", "id", "file_name"):
        if wanted is None or str(id) in wanted:
            truths[str(id)] = (str(name), set())
    for id, caption in _rows(captions, content, "annotations", "image_id", "caption"):
        if str(id) in truths:
            found = official_mentions(str(caption), words, base)
            truths[str(id)][1].update(kind for _, kind in found)
    if truths:
        # Segmentations are gigabytes as Python objects; they are dropped as they are read.
        content = _read_json(instances, lambda found: {k: found[k] for k in _KEPT & found.keys()})
        kinds = {}
        for category, name in _rows(instances, content, "categories", "id", "name"):
            if name not in words.classes:
                raise InputError(f"{instances}: category {name!r} is none of COCO's 80")
            kinds[category] = words.classes[name]
        for id, category in _rows(instances, content, "annotations", "image_id", "category_id"):
            if category not in kinds:
                raise InputError(f"{instances}: category_id {category!r} is not among categories")
            if str(id) in truths:
                truths[str(id)][1].add(kinds[category])
    return {id: (name, sorted(objects)) for id, (name, objects) in truths.items()}


def _rows(
    path: Path, content: dict[str, Any], section: str, *fields: str
) -> Iterator[tuple[Any, ...]]:
    """Yield `fields` of the rows in a section of a file of annotations."""
    for number, row in enumerate(content.get(section) or [], start=1):
        try:
            values = tuple(row[field] for field in fields)
        except (KeyError, TypeError):
            raise InputError(
                f"{path}: {section}, row {number}: lacks one of {', '.join(fields)}; give "
                "COCO 2014's own file"
            ) from None
        yield values


def _of_subset(folder: Path, wanted: set[str] | None) -> dict[str, tuple[str, list[str]]]:
    path = folder / SUBSET
    content = _read_json(path)
    truths = {}
    for id, objects in content.items():
        if wanted is not None and id not in wanted:
            continue
        if not isinstance(objects, list) or not id.isdigit():
            raise InputError(f"{path}: entry {id!r}: is no list of classes of an image's number")
        truths[id] = (id, sorted(objects))
    return truths


def _read_json(
    path: Path, hook: Callable[[dict[str, Any]], dict[str, Any]] | None = None
) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes(), object_hook=hook)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); CHAIR needs COCO 2014's instances and captions in "
            f"annotations/, both of a split, or {SUBSET}"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: is no JSON object; download it again")
    return content


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
