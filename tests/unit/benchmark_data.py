"""Where the scorers' tests find data: `../shared` beside the checkout, or stand-ins made here.

The stand-ins know the words of the tests and nothing else; what is published of the benchmarks is
held against the real data only.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
BENCHMARKS = SHARED / "benchmarks"
SYNONYMS = ROOT / "tests" / "data" / "chair" / "synonyms.txt"

needs_shared = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="no ../shared")


@cache
def nltk_folder() -> Path:
    """The folder of NLTK's data: `../shared`'s, NLTK_DATA's, or a stand-in."""
    if (SHARED / "nltk_data").is_dir():
        return SHARED / "nltk_data"
    if "NLTK_DATA" in os.environ:
        return Path(os.environ["NLTK_DATA"])
    folder = Path(tempfile.mkdtemp(prefix="mmpref-nltk-"))
    _write_punkt(folder / "tokenizers" / "punkt_tab" / "english")
    _write_tagger(folder / "taggers" / "averaged_perceptron_tagger_eng")
    _write_wordnet(folder / "corpora" / "wordnet")
    return folder


def with_nltk() -> Iterator[None]:
    """What a fixture yields from, for tests that take NLTK's data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLTK_DATA", str(nltk_folder()))
        import nltk

        patch.setattr(nltk.data, "path", [str(nltk_folder())])
        yield


def chair_names() -> list[list[str]]:
    """The rows of CHAIR's list: a class and its names."""
    return [[name.strip() for name in row.split(",")] for row in SYNONYMS.read_text().splitlines()]


@cache
def refined_synonyms() -> Path:
    """Object HalBench's list, `../shared`'s or a stand-in: CHAIR's, with every name once."""
    real = BENCHMARKS / "objhal" / "synonyms_refine.txt"
    if real.is_file():
        return real
    more = {"person": ["brother"], "dining table": ["coffee table"], "remote": ["remote control"]}
    rows = [", ".join(dict.fromkeys([*row, *more.get(row[0], [])])) for row in chair_names()]
    path = Path(tempfile.mkdtemp(prefix="mmpref-objhal-")) / real.name
    path.write_text("\n".join(rows) + "\n")
    return path


def _write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def _write_punkt(folder: Path) -> None:
    _write(
        folder,
        abbrev_types__txt="dr\nmr\nmrs\nst\n",
        collocations__tab="",
        ortho_context__tab="",
        sent_starters__txt="",
    )


# Words of the tests that are no nouns; every other word is one.
_TAGS = {
    "CC": "and or but",
    "CD": "one two three four",
    "DT": "a an the A An The this no several every",
    "IN": "in on of by with near beside behind under at as for There",
    "JJ": "red blue big old small tall wooden black white hot adult",
    "PRP": "it It they He She I you",
    "RB": "not also there not here",
    "VBZ": "is sits stands has shows runs chases",
    "VBP": "are sit stand have see",
    "VBG": "walking standing sitting watching holding playing running",
    ".": ". ! ?",
    ",": ",",
}


def _write_tagger(folder: Path) -> None:
    nouns = {word for row in chair_names() for name in row for word in name.split()}
    tags = {f"{noun}s": "NNS" for noun in {*nouns, *_NOUNS.split()} if not noun.endswith("s")}
    tags |= {line.split()[0]: "NNS" for line in _IRREGULAR.strip().split("\n")}
    tags |= {word: tag for tag, words in _TAGS.items() for word in words.split()}
    name = "averaged_perceptron_tagger_eng"
    weights = {"bias": {"NN": 1.0}}
    folder.mkdir(parents=True)
    for part, content in (
        ("weights", weights),
        ("tagdict", tags),
        ("classes", sorted({*_TAGS, "NN", "NNS"})),
    ):
        (folder / f"{name}.{part}.json").write_text(json.dumps(content))


_IRREGULAR = """
children child
dice die
geese goose
knives knife
men man
mice mouse
oxen ox
scarves scarf
shelves shelf
women woman
"""
_NOUNS = """
animal bookshelf cub cupboard doghouse face glass goat house man men people plant player puppy
screen shirt sky track woman wheel window kitten hound wolf fox lady desk
"""


def _write_wordnet(folder: Path) -> None:
    nouns = {word.lower() for row in chair_names() for name in row for word in name.split()}
    nouns |= {*_NOUNS.split(), *(line.split()[1] for line in _IRREGULAR.split("\n") if line)}
    plurals = {line.split()[0] for line in _IRREGULAR.split("\n") if line} - {"men"}
    rows = [f"{noun} n 1 0 1 0 {8 * n:08d}" for n, noun in enumerate(sorted(nouns - plurals), 1)]
    nothing = dict.fromkeys(
        f"{kind}__{part}"
        for kind, parts in (("index", "adj adv verb sense"), ("data", "adj adv noun verb"))
        for part in parts.split()
    )
    _write(
        folder,
        **dict.fromkeys(nothing, ""),
        **{f"{part}__exc": "" for part in ("adj", "adv", "verb")},
        lexnames="00 noun.Tops 3\n",
        index__noun="\n".join(rows) + "\n",
        noun__exc=_IRREGULAR.strip() + "\n",
    )
