"""English words as the official scorers see them: NLTK's tokens, tags and lemmas, singulars.

NLTK's data are looked for in `NLTK_DATA` or, without it, where the workflow downloads them.
"""

import os
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import TypeVar

from mmpref.errors import InputError

FOLDER = Path("resources/benchmarks/nltk_data")

Result = TypeVar("Result")


def tokens(text: str) -> list[str]:
    """Return the tokens of `nltk.word_tokenize`: sentences by Punkt, words as in the Treebank."""
    from nltk import word_tokenize

    return _with_data(word_tokenize, text)


def tagged(words: list[str]) -> list[tuple[str, str]]:
    """Return each word with its part of speech, as `nltk.pos_tag` gives it."""
    return _with_data(_tagger)(words)


@lru_cache(maxsize=100_000)
def lemma(word: str) -> str:
    """Return the lemma of a noun under WordNet 3.0; the case stays."""
    from nltk.stem import WordNetLemmatizer

    return _with_data(WordNetLemmatizer().lemmatize, word)


@lru_cache(maxsize=100_000)
def singular(word: str) -> str:
    """Return the singular by TextBlob's rules, those of pattern.en: of "bus" they make "bu"."""
    from textblob.en.inflect import singularize

    return str(singularize(word))


@cache
def _tagger() -> Callable[[list[str]], list[tuple[str, str]]]:
    # nltk.pos_tag reads its weights again at every call.
    from nltk.tag import PerceptronTagger

    return PerceptronTagger().tag


def _with_data(function: Callable[..., Result], *arguments: str) -> Result:
    """Return what `function` returns; raise InputError when it misses NLTK's data."""
    import nltk

    if "NLTK_DATA" not in os.environ and str(FOLDER) not in nltk.data.path:
        nltk.data.path.insert(0, str(FOLDER))
    try:
        return function(*arguments)
    except LookupError as error:
        lines = map(str.strip, str(error).splitlines())
        missing = next((line for line in lines if line.startswith("Resource")), "a resource")
        raise InputError(
            f"NLTK: {missing} Run `snakemake {FOLDER}`, or set NLTK_DATA to a folder that has "
            "punkt_tab, averaged_perceptron_tagger_eng and wordnet"
        ) from None
