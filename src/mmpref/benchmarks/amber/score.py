"""AMBER (arXiv 2311.07397): descriptions of an image, and yes/no questions about it.

The official reading is that of `inference.py` of junyangwang0410/AMBER at revision 534babf6.
"""

import os
import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from mmpref.benchmarks.amber.items import (
    ATTRIBUTES,
    CATEGORIES,
    QUESTIONS,
    associations_of,
    check_words,
)
from mmpref.benchmarks.yesno.score import parse
from mmpref.errors import InputError
from mmpref.language.mentions import Mention
from mmpref.language.words import lemma, tagged, tokens
from mmpref.records.items import Item
from mmpref.scoring.metric import READINGS, Array, Metric, Sums, printed, ratio
from mmpref.scoring.resources import Resources

SIMILARITIES = ("exact", "embeddings", "spacy")
SPACY_MODEL = "MMPREF_SPACY_MODEL"
"""Environment variable: the folder of a spaCy model to use for `spacy`, not en_core_web_lg."""

# Words are alike when their similarity is above this.
_ALIKE = 0.8
# The official counters that are divided by do not start from 0.
_SEED = 0.001
# What metrics are about, by the start of their names.
_PARTS = {
    "": QUESTIONS,
    "existence/": ("existence",),
    "attribute/": ATTRIBUTES,
    **{f"{name}/": (name,) for name in (*ATTRIBUTES, "relation")},
}
# What is counted, out of what.
_DESCRIPTION: dict[str, tuple[str, str, Literal["lower", "higher"], str]] = {
    "CHAIR": ("hallucinated", "nouns", "lower", "share of object nouns not in the image"),
    "Cover": ("covered", "truth", "higher", "share of the objects in the images that are named"),
    "Hal": ("flawed", "items", "lower", "share of descriptions with something hallucinated"),
    "Cog": ("cog", "hallu", "lower", "share of likely but absent objects that are named"),
}
_QUESTION = {
    "accuracy": ("correct", "items", "share of right answers"),
    "precision": ("true_no", "answered_no", "share of right ones among the answers no"),
    "recall": ("true_no", "labelled_no", "share of questions to be denied that are"),
}
_UNIT = {"official": "in percent, as AMBER prints it", "strict": "in percent"}


def verdict(item: Item, response: str, resources: Resources) -> dict[str, Any]:
    """Return the counts of one answer under both readings.

    Besides `items`, `unparsed` and `differs` these are `CATEGORY/COUNT`, CATEGORY being
    `generative`, `existence`, `state`, `number`, `action` or `relation`. For descriptions:
    `items`, `hallucinated` of `nouns` (repeats count), `covered` of `truth` words, `cog` of `hallu`
    words, and `flawed` (0 or 1: something is hallucinated); for questions: `items`, `labelled_no`,
    `correct`, `answered_no`, `true_no`. The official ones begin with `official_`.

    Uses `resources.similarity` and, for descriptions, `relation.json` and `safe_words.txt` in
    `resources.folder`. A description is unparsed when it has no word at all.

    Raises InputError when those files are missing or have no entry for a word of the item, or when
    the similarity is unknown or not installed.
    """
    if item.truth["type"] == "generative":
        return _describe(item, response, resources)
    return _answer(item, response)


def metrics(columns: set[str]) -> dict[str, Metric]:
    """Return the metrics of both readings, in percent, for the categories in `columns`.

    The positive class is no. Official ones are rounded to one decimal as AMBER prints them; strict
    ones are not. Those of all questions together, and the AMBER score, exist only where existence,
    attributes and relation (and descriptions) do.
    """
    asked = {name for name in QUESTIONS if f"{name}/items" in columns}
    described = "generative/items" in columns
    complete = {"existence", "relation"} <= asked and not asked.isdisjoint(ATTRIBUTES)
    found: dict[str, Metric] = {}
    for reading in READINGS:
        if described:
            found |= {f"{reading}/{name}": _description(reading, name) for name in _DESCRIPTION}
        for part, names in _PARTS.items():
            if asked.isdisjoint(names) or not (part or complete):
                continue
            of_part = _questions(reading, part, [name for name in names if name in asked])
            found |= {f"{reading}/{part}{name}": metric for name, metric in of_part.items()}
            if described and not part:
                found[f"{reading}/AMBER"] = _amber(
                    found[f"{reading}/CHAIR"], found[f"{reading}/F1"]
                )
    return found


@dataclass(frozen=True)
class _Lexicon:
    """What AMBER knows about words; `alike` has every word itself, and those similar to it."""

    associations: Mapping[str, Sequence[str]]
    vocabulary: frozenset[str]
    safe: frozenset[str]
    alike: Mapping[str, Set[str]]


@lru_cache(maxsize=8)
def _lexicons(folder: Path, similarity: str, model: str | None) -> tuple[_Lexicon, _Lexicon]:
    """Return the lexicon of the files as they are, and in lower case."""
    associations, path = associations_of(folder), folder / "safe_words.txt"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); copy AMBER's there") from None
    lower: dict[str, list[str]] = {}
    for word, others in associations.items():
        lower.setdefault(word.lower(), []).extend(other.lower() for other in others)
    one, other = (frozenset(known).union(*known.values()) for known in (associations, lower))
    alike = _alike(sorted(one | other), similarity, model)
    return (
        _Lexicon(associations, one, frozenset(text.split("\n")), alike),
        _Lexicon(lower, other, frozenset(text.lower().split("\n")), alike),
    )


def _alike(words: Sequence[str], similarity: str, model: str | None) -> dict[str, set[str]]:
    """Return each word's alike ones, by one look at each pair."""
    found = {word: {word} for word in words}
    if similarity == "exact":
        return found
    if similarity == "spacy":
        score = _spacy(model)
    else:
        # Imported where it is needed: it brings torch.
        from mmpref.language.similarity import load_similarity

        score = load_similarity("minilm")
    pairs = list(combinations(words, 2))
    values = score([one for one, _ in pairs], [other for _, other in pairs])
    for (one, other), value in zip(pairs, values, strict=True):
        if value > _ALIKE:
            found[one].add(other)
            found[other].add(one)
    return found


def _spacy(model: str | None) -> Callable[[Sequence[str], Sequence[str]], list[float]]:
    """Return spaCy's similarity of words under the model in a folder, or en_core_web_lg.

    Raises InputError when spaCy or the model is missing, or the model has no word vectors.
    """
    name = model or "en_core_web_lg"
    advice = (
        f"install en_core_web_lg, set {SPACY_MODEL} to the folder of a spaCy model with word "
        "vectors, or choose the similarity `exact` or `embeddings`"
    )
    try:
        import spacy

        nlp = spacy.load(Path(model) if model else name)
    except (ImportError, OSError, ValueError) as error:
        raise InputError(f"similarity `spacy`: {name}: {error}; {advice}") from None
    if not nlp.vocab.vectors.size:
        raise InputError(f"similarity `spacy`: {name} has no word vectors; {advice}")

    def similarity(words: Sequence[str], others: Sequence[str]) -> list[float]:
        # Word vectors need the tokenizer alone; tagger, parser and so on do not change them.
        docs = {word: nlp.make_doc(word) for word in {*words, *others}}
        with warnings.catch_warnings():
            # Many of AMBER's words have no vector (W008).
            warnings.simplefilter("ignore", UserWarning)
            pairs = zip(words, others, strict=True)
            return [docs[word].similarity(docs[other]) for word, other in pairs]

    return similarity


class _Judged(NamedTuple):
    """A description under a reading: what is counted, `hallucinated` as places among `nouns`."""

    hallucinated: list[int]
    nouns: Sequence[str]
    covered: Collection[Any]
    truth: Collection[str]
    cog: Collection[Any]
    hallu: Collection[str]

    @property
    def names(self) -> list[str]:
        return [self.nouns[place] for place in self.hallucinated]

    def counts(self, prefix: str) -> dict[str, int]:
        found = {f"{prefix}{name}": len(counted) for name, counted in self._asdict().items()}
        return found | {f"{prefix}flawed": int(bool(self.hallucinated))}


def _describe(item: Item, response: str, resources: Resources) -> dict[str, Any]:
    if resources.similarity not in SIMILARITIES:
        raise InputError(
            f"similarity is {resources.similarity!r}; write one of {', '.join(SIMILARITIES)}"
        )
    if resources.folder is None:
        raise InputError("AMBER: descriptions need the folder with relation.json; give it")
    model = os.environ.get(SPACY_MODEL) if resources.similarity == "spacy" else None
    lexicon, lower = _lexicons(resources.folder, resources.similarity, model)
    truth, hallu = item.truth["truth"], item.truth["hallu"]
    check_words(resources.folder, item.truth, f"id {item.id}")

    words = tokens(response)
    places = zip(tagged(words), _places(response, words), strict=True)
    nouns = [(word, place) for (word, tag), place in places if tag.startswith("NN")]
    kept = [name for name in (lemma(word) for word, _ in nouns) if name in lexicon.vocabulary]
    mentions = [
        Mention(name, *place)
        for name, place in ((lemma(word.lower()), place) for word, place in nouns)
        if name in lower.vocabulary and name not in lower.safe
    ]
    official = _official(lexicon, kept, truth, hallu)
    strict = _strict(lower, [mention.name for mention in mentions], truth, hallu)
    differences = _differences(official, strict)
    note = [f"not in the image: {_listed(strict.names)}"] if strict.names else []
    wrong = [mentions[place] for place in strict.hallucinated]
    return {
        "items": 1,
        "unparsed": int(re.search(r"\w", response) is None),
        "differs": int(bool(differences)),
        "generative/items": 1,
        **official.counts("generative/official_"),
        **strict.counts("generative/"),
        "flawed": bool(wrong),
        "note": "; ".join(note + differences),
        "expected": f"in the image: {_listed(truth)}",
        "hallucinated_mentions": [mention.span for mention in wrong],
        "grounded_mentions": [mention.span for mention in mentions if mention not in wrong],
    }


def _official(
    lexicon: _Lexicon, nouns: Sequence[str], truth: Sequence[str], hallu: Sequence[str]
) -> _Judged:
    """Judge nouns, all of the vocabulary, by the rule of AMBER's script.

    The first match counts, associations of all words before the words themselves, so that a truth
    word can cover another one it is associated with, and a repeated one is never covered fully.
    """
    present, absent = _targets(lexicon, truth), _targets(lexicon, hallu)
    hallucinated: list[int] = []
    covered: set[int | None] = set()
    cog: set[int | None] = set()
    for place, noun in enumerate(nouns):
        if noun in lexicon.safe:
            continue
        same = _first(present, {noun})
        if same is not None:
            covered.add(same)
            continue
        cog.add(_first(absent, {noun}))
        cog.add(_first(absent, lexicon.alike[noun]))
        forgiven = _first(present, lexicon.alike[noun])
        covered.add(forgiven)
        if forgiven is None:
            hallucinated.append(place)
    return _Judged(hallucinated, nouns, covered - {None}, truth, cog - {None}, hallu)


def _targets(lexicon: _Lexicon, words: Sequence[str]) -> list[tuple[str, int]]:
    """Return what stands for `words`, in the order of the script, with the place it stands for."""
    associated = [
        (other, place) for place, word in enumerate(words) for other in lexicon.associations[word]
    ]
    return associated + [(word, place) for place, word in enumerate(words)]


def _first(targets: Sequence[tuple[str, int]], names: Set[str]) -> int | None:
    return next((place for name, place in targets if name in names), None)


def _strict(
    lexicon: _Lexicon, nouns: Sequence[str], truth: Sequence[str], hallu: Sequence[str]
) -> _Judged:
    """Judge nouns, none of them a safe word, by what they name.

    Truth and hallu words are distinct; those that cannot be judged are not counted: safe words,
    and hallu words that are truth words as well. A hallu word is hit by its own name, or by a
    hallucinated noun that stands for it.
    """
    in_image = {word.lower() for word in truth}
    to_cover = in_image - lexicon.safe
    likely = {word.lower() for word in hallu} - in_image - lexicon.safe
    hallucinated: list[int] = []
    covered: set[str] = set()
    cog: set[str] = set()
    for place, noun in enumerate(nouns):
        named = _named(lexicon, noun, in_image)
        covered |= named
        if not named:
            hallucinated.append(place)
        if noun in likely or not named:
            cog |= _named(lexicon, noun, likely)
    return _Judged(hallucinated, nouns, covered & to_cover, to_cover, cog, likely)


def _named(lexicon: _Lexicon, noun: str, words: set[str]) -> set[str]:
    """Return those of `words` that a noun names: itself, else its associates, else similar ones."""
    if noun in words:
        return {noun}
    associated = {word for word in words if noun in lexicon.associations[word]}
    if associated:
        return associated
    alike = lexicon.alike[noun]
    return {word for word in words if not alike.isdisjoint((word, *lexicon.associations[word]))}


def _places(text: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Return where the tokens of a text are in it; NLTK's own quotation marks are nowhere."""
    places, end = [], 0
    for word in words:
        # '"' has become one of these; they may also stand in the text as they are.
        start = -1 if word in ("``", "''") else text.find(word, end)
        if start >= 0:
            end = start + len(word)
        places.append((start, start + len(word)) if start >= 0 else (end, end))
    return places


def _differences(official: _Judged, strict: _Judged) -> list[str]:
    """Return in words what the readings judge differently."""
    found = []
    if {name.lower() for name in official.names} != set(strict.names):
        found.append(f"official: not in the image: {_listed(official.names) or 'nothing'}")
    one, other = strict.counts(""), official.counts("")
    for name, part, whole in (
        ("hallucinated", "hallucinated", "nouns"),
        ("covered", "covered", "truth"),
        ("likely ones named", "cog", "hallu"),
    ):
        if one[part] * other[whole] != other[part] * one[whole]:
            found.append(
                f"{name}: {one[part]} of {one[whole]} (official: {other[part]} of {other[whole]})"
            )
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _answer(item: Item, response: str) -> dict[str, Any]:
    label, category = item.truth["truth"], CATEGORIES[item.truth["type"]]
    answer = parse(response)
    official = {"Yes": "yes", "No": "no"}.get(response)
    note = ""
    if answer != official:
        note = f"read as {answer} (official: neither yes nor no)"
    elif answer != label:
        note = f"read as {answer or 'neither yes nor no'}"
    counts = {"items": True, "labelled_no": label == "no"}
    for start, read in (("official_", official), ("", answer)):
        counts |= {
            f"{start}correct": read == label,
            f"{start}answered_no": read == "no",
            f"{start}true_no": read == label == "no",
        }
    return {
        "items": 1,
        "unparsed": int(answer is None),
        "differs": int(answer != official),
        **{f"{category}/{name}": int(count) for name, count in counts.items()},
        "flawed": answer != label,
        "note": note,
        "expected": label,
        "hallucinated_mentions": [],
        "grounded_mentions": [],
    }


def _total(categories: Sequence[str], sums: Sums, *columns: str) -> Array:
    return np.sum([sums[f"{name}/{column}"] for name in categories for column in columns], axis=0)


def _printed(value: Array, items: Array) -> Array:
    """Return a percentage as the script prints it, but NaN, not 0, where there are no items."""
    return np.where(items > 0, printed(value, 1), np.nan)


def _official_share(
    categories: Sequence[str], part: str, whole: str, seed: float = _SEED
) -> Callable[[Sums], Array]:
    column = whole if whole in ("items", "labelled_no") else f"official_{whole}"

    def compute(sums: Sums) -> Array:
        items, hits, of = (
            _total(categories, sums, name) for name in ("items", f"official_{part}", column)
        )
        if part == "flawed":
            return _printed(100 - (of - hits) / (of + seed) * 100, items)
        return _printed(hits / (of + seed) * 100, items)

    return compute


def _description(reading: str, name: str) -> Metric:
    part, whole, better, meaning = _DESCRIPTION[name]

    def strict(sums: Sums) -> Array:
        return 100 * ratio(sums[f"generative/{part}"], sums[f"generative/{whole}"])

    official = _official_share(["generative"], part, whole)
    compute = official if reading == "official" else strict
    return Metric(compute, better, f"{meaning}, {_UNIT[reading]}")


def _questions(reading: str, part: str, categories: Sequence[str]) -> dict[str, Metric]:
    """Return the metrics of the questions in `categories`, officially as printed under `part`."""
    # Attributes are the sums of three counters, each with its seed, even where one is not asked.
    seed = _SEED * (len(ATTRIBUTES) if part == "attribute/" else 1)
    epsilon = 0.001 if part == "existence/" else 0.0001
    total = partial(_total, categories)

    def share(hits: str, whole: str) -> Callable[[Sums], Array]:
        if reading == "official":
            return _official_share(categories, hits, whole, seed)
        return lambda sums: ratio(100 * total(sums, hits), total(sums, whole))

    found = {
        name: Metric(share(hits, whole), "higher", f"{meaning}, {_UNIT[reading]}")
        for name, (hits, whole, meaning) in _QUESTION.items()
    }

    def f1(sums: Sums) -> Array:
        if reading == "strict":
            return ratio(200 * total(sums, "true_no"), total(sums, "answered_no", "labelled_no"))
        precision, recall = (found[name].compute(sums) / 100 for name in ("precision", "recall"))
        value = 2 * precision * recall / (precision + recall + epsilon) * 100
        return _printed(value, total(sums, "items"))

    rounded = ", both rounded" if reading == "official" else ""
    meaning = f"harmonic mean of precision and recall of no{rounded}, {_UNIT[reading]}"
    return found | {"F1": Metric(f1, "higher", meaning)}


def _amber(chair: Metric, f1: Metric) -> Metric:
    return Metric(
        lambda sums: np.round((100 - chair.compute(sums) + f1.compute(sums)) / 2, 8),
        "higher",
        "mean of 100 - CHAIR and F1, the formula of the paper (the script does not print it)",
    )
