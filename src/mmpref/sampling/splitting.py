"""Where sentences end, and where a reference answer is cut for a model to go on from there."""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mmpref.errors import InputError

# A stop counts where white space or the text's end follows; `3.5` and `example.org` have none.
_STOP = re.compile(r"(?P<stop>[.!?…]+)(?P<close>[\"'”’)\]*_]*)(?=\s|\Z)|[。！？]+|\n")
_NEVER_LAST = frozenset(
    ["approx", "cf", "dr", "e.g", "i.e", "messrs", "mr", "mrs", "ms", "prof", "st", "vs"]
)
_SOMETIMES_LAST = frozenset(["al", "co", "corp", "etc", "inc", "jr", "ltd", "sr"])
# As an answer: the "No" of "No people are visible" has no reverse.
_YES_NO = re.compile(
    r"[Yy]es\b|[Nn]o(?=\s*(?:\Z|\n|[.,;:!?…–—]|- )|\s+(?:there|it|this|that|the|he|she|they)\b)"
)
_SWAPPED = {"Yes": "No", "yes": "no", "No": "Yes", "no": "yes"}


@dataclass(frozen=True)
class Opening:
    """The kept first part of a sentence, and what a model has to read to complete it.

    `context` holds the answer's token ids up to the cut, of which `context[begin:]` are the
    sentence's own; `text` is the kept part, `before` the white space that separates the sentence
    from the previous one, `swapped` whether its yes became a no or the reverse.
    """

    context: list[int]
    begin: int | None
    text: str
    before: str
    swapped: bool


def sentence_end(text: str, start: int = 0, more_may_come: bool = False) -> int | None:
    """Return where the sentence that `text` begins with ends, None if it does not.

    Only stops from character `start` on count: `.`, `!`, `?` or `…` with the quotes and brackets
    that close after it, or a line break. A full stop after a usual abbreviation, an initial or a
    list number is none; one after `etc.`, `a.m.` or an ellipsis is none before lower case. With
    `more_may_come`, a stop that the text to come may undo does not count yet.
    """
    for match in _STOP.finditer(text, start):
        before, after = text[: match.start()], text[match.end() :]
        if match[0] == "\n":
            if before.strip():
                return match.start()
            continue
        if match["stop"] is None:
            return match.end()
        word = re.split(r"\s", before)[-1].lstrip("\"'“‘([*_")
        single = match[0] == "."
        if single and (
            word.lower() in _NEVER_LAST
            or (len(word) == 1 and word.isupper() and word != "I")
            or before.strip().isdigit()
        ):
            continue
        doubtful = (
            match["close"]
            or match["stop"].startswith(("..", "…"))
            or (single and ("." in word or word.lower() in _SOMETIMES_LAST))
        )
        if more_may_come and not (after.strip() if doubtful else after):
            return None
        if not (doubtful and after.partition("\n")[0].lstrip()[:1].islower()):
            return match.end()
    return None


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return the characters [start, end) of each sentence, white space around it excluded."""
    spans: list[tuple[int, int]] = []
    end = 0
    while rest := text[end:].strip():
        start = text.index(rest[0], end)
        end = start + len(rest[: sentence_end(rest)].rstrip())
        spans.append((start, end))
    return spans


def split(tokenizer: Any, answer: str, rng: np.random.Generator) -> list[Opening]:
    """Cut every sentence of `answer` at a random word and return what is kept of each.

    After arXiv 2407.02477 (BDHS), which leaves open where a cut may be. Here a sentence of
    W > 1 words keeps its first 1 to W - 1 words, each number being equally likely; one of one word
    keeps nothing, or its yes or no, which only a swap can change. With probability 0.5, a leading
    yes becomes a no (or the reverse) before the cut; the paper swaps the No of "No people are
    visible" too, which is no answer. Without swaps, contexts are nested.

    Raises:
        InputError: the tokenizer does not tell which characters a token stands for.
    """
    clean = _tokens(tokenizer, answer)
    spans: list[tuple[int, int]] = []
    for start, end in sentence_spans(answer):
        if start in clean.first:
            spans.append((start, end))
        elif spans:
            # A sentence that begins inside a token cannot be told from the one before it.
            spans[-1] = (spans[-1][0], end)
    openings: list[Opening] = []
    previous_end = 0
    for start, end in spans:
        swap, where = rng.random(2)
        yes_no = _YES_NO.match(answer, start)
        word = yes_no[0] if yes_no else ""
        swapped = bool(word and swap >= 0.5)
        text, tokens = answer, clean
        if swapped:
            text = answer[:start] + _SWAPPED[word] + answer[start + len(word) :]
            word, tokens = _SWAPPED[word], _tokens(tokenizer, text)
        last = end + len(text) - len(answer)
        begin = next(
            i for i in range(tokens.first[start], len(tokens.ids)) if tokens.ends[i] > start
        )
        cuts = [
            token
            for place, token in tokens.first.items()
            if start < place < last and text[place - 1].isspace()
        ]
        if cuts:
            cut = cuts[int(where * len(cuts))]
            context, kept = tokens.ids[:cut], text[start : tokens.ends[cut - 1]]
        elif word:
            context, kept = _tokens(tokenizer, text[: start + len(word)]).ids, word
        else:
            context, kept = tokens.ids[:begin], ""
        openings.append(Opening(context, begin, kept, answer[previous_end:start], swapped))
        previous_end = end
    return openings


class _Tokens(NamedTuple):
    """A text's tokens, where in it each ends, and the first token of what begins at a character.

    White space before a word belongs to its first token, or is a token before that.
    """

    ids: list[int]
    ends: list[int]
    first: dict[int, int]


def _tokens(tokenizer: Any, text: str) -> _Tokens:
    try:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    except NotImplementedError:
        raise InputError(
            f"The tokenizer {tokenizer.name_or_path} does not tell which characters a token stands "
            "for; use a model with a fast tokenizer (a tokenizer.json in its folder)."
        ) from None
    first: dict[int, int] = {}
    for token, (start, _) in enumerate(encoded["offset_mapping"]):
        first.setdefault(len(text) - len(text[start:].lstrip()), token)
    return _Tokens(encoded["input_ids"], [end for _, end in encoded["offset_mapping"]], first)
