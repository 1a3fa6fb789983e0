"""Where sentences end, and where a reference answer is cut for a model to go on from there."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmpref.errors import InputError

# A stop counts where white space or the text's end follows; `3.5` and `example.org` have none.
_STOP = re.compile(r"(?P<stop>[.!?…]+)(?P<close>[\"'”’)\]*_]*)(?=\s|\Z)|[。！？]+|\n")
_OPEN_STOP = re.compile(r"[.!?…][\"'”’)\]*_]*\s*\Z")
_NEVER_LAST = frozenset(
    ["approx", "cf", "dr", "e.g", "i.e", "messrs", "mr", "mrs", "ms", "prof", "st", "vs"]
)
_SOMETIMES_LAST = frozenset(["al", "co", "corp", "etc", "inc", "jr", "ltd", "sr"])
_YES_NO = re.compile(r"(Yes|yes|No|no)\b")
_SWAPPED = {"Yes": "No", "yes": "no", "No": "Yes", "no": "yes"}


@dataclass(frozen=True)
class Opening:
    """The kept first part of a sentence, and what a model has to read to complete it.

    `context` holds the answer's token ids up to the cut, of which `context[begin:]` are the
    sentence's own; `text` is the kept part, `before` the white space that separates the sentence
    from the previous one, `swapped` whether its yes became a no or the reverse.
    """

    context: list[int]
    begin: int
    text: str
    before: str
    swapped: bool


def sentence_end(text: str, start: int = 0, more_may_come: bool = False) -> int | None:
    """Return where the sentence that `text` begins with ends, None if it does not.

    Only stops from character `start` on count. A sentence ends at `.`, `!`, `?` or `…` with the
    quotes and brackets that close after it, or before a line break. A full stop after a usual
    abbreviation, an initial or a list number is none; one after `etc.`, `a.m.` or an ellipsis is
    one unless the next word is in lower case. With `more_may_come`, a stop of which only the text
    to come can tell whether it is one does not count yet.
    """
    for match in _STOP.finditer(text, start):
        before, after = text[: match.start()], text[match.end() :]
        if match[0] == "\n":
            if before.strip():
                return match.start()
            continue
        if match["stop"] is None:
            return match.end()
        if more_may_come and not after:
            return None
        word = re.split(r"\s", before)[-1].lstrip("\"'“‘([*_")
        single = match[0] == "."
        if single and (
            word.lower() in _NEVER_LAST
            or (len(word) == 1 and word.isupper() and word != "I")
            or before.strip().isdigit()
        ):
            continue
        if (
            match["close"]
            or match["stop"].startswith(("..", "…"))
            or (single and ("." in word or word.lower() in _SOMETIMES_LAST))
        ):
            follower = after.lstrip()
            if more_may_come and not follower:
                return None
            if follower[:1].islower() and "\n" not in after[: len(after) - len(follower)]:
                continue
        return match.end()
    return None


def has_open_stop(text: str) -> bool:
    """Return whether `text` ends with a stop that what follows may confirm or refute."""
    return bool(_OPEN_STOP.search(text))


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return the characters [start, end) of each sentence, white space around it excluded."""
    spans: list[tuple[int, int]] = []
    end = 0
    while rest := text[end:].strip():
        start = text.index(rest[0], end)
        length = sentence_end(rest)
        end = start + (len(rest) if length is None else length)
        spans.append((start, start + len(text[start:end].rstrip())))
    return spans


def split(tokenizer: Any, answer: str, rng: np.random.Generator) -> list[Opening]:
    """Cut every sentence of `answer` at a random word and return what is kept of each.

    After arXiv 2407.02477 (BDHS), which leaves open where a cut may be. Here a sentence of
    W > 1 words keeps its first 1 to W - 1 words, each number being equally likely. A sentence of
    one word keeps nothing, so that it can change at all, unless it is a yes or no: that is kept,
    because only the swap can change it. With probability 0.5, a sentence's leading yes becomes a
    no (or the reverse) before the cut.

    The answer is tokenised once, as a whole, so the contexts of sentences that are not swapped are
    prefixes of each other.

    Raises:
        InputError: the tokenizer does not tell which characters a token stands for.
    """
    spans = sentence_spans(answer)
    clean = _Words(tokenizer, answer, spans)
    openings: list[Opening] = []
    previous_end = 0
    for start, end in clean.spans:
        swap, where = rng.random(2)
        yes_no = _YES_NO.match(answer, start)
        swapped = yes_no is not None and bool(swap >= 0.5)
        text, words = answer, clean
        if yes_no and swapped:
            text = answer[:start] + _SWAPPED[yes_no[0]] + answer[yes_no.end() :]
            end += len(text) - len(answer)
            words = _Words(tokenizer, text, [(start, end)])
        cuts = [token for place, token in sorted(words.first_token.items()) if start < place < end]
        begin = words.first_own_token[start]
        if cuts:
            cut = cuts[int(where * len(cuts))]
            context, kept = words.ids[:cut], text[start : words.offsets[cut - 1][1]]
        elif yes_no:
            word = _YES_NO.match(text, start)
            assert word is not None
            context, kept = _encode(tokenizer, text[: word.end()])[0], word[0]
        else:
            context, kept = words.ids[:begin], ""
        openings.append(Opening(context, begin, kept, answer[previous_end:start], swapped))
        previous_end = end if text is answer else end - len(text) + len(answer)
    return openings


class _Words:
    """A tokenised text: at which tokens its words and sentences begin."""

    def __init__(self, tokenizer: Any, text: str, spans: Sequence[tuple[int, int]]) -> None:
        self.ids, self.offsets = _encode(tokenizer, text)
        starts = {match.start() for match in re.finditer(r"(?<!\S)\S", text)}
        starts.update(start for start, _ in spans)
        # By the character a word begins with: its first token, white space before the word
        # included, and its first token that holds more than white space.
        self.first_token: dict[int, int] = {}
        self.first_own_token: dict[int, int] = {}
        for token, (left, right) in enumerate(self.offsets):
            place = left
            while place < len(text) and text[place].isspace():
                place += 1
            if place in starts:
                self.first_token.setdefault(place, token)
                if place < right:
                    self.first_own_token.setdefault(place, token)
        # A sentence that begins inside a token cannot be told from the one before it.
        self.spans: list[tuple[int, int]] = []
        for start, end in spans:
            if start in self.first_own_token:
                self.spans.append((start, end))
            elif self.spans:
                self.spans[-1] = (self.spans[-1][0], end)


def _encode(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Return ids and the characters each stands for."""
    try:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    except NotImplementedError:
        raise InputError(
            f"The tokenizer {tokenizer.name_or_path} does not tell which characters a token stands "
            "for; use a model with a fast tokenizer (a tokenizer.json in its folder)."
        ) from None
    return encoded["input_ids"], encoded["offset_mapping"]
