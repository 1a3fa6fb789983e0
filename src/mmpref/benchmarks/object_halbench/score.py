"""Object HalBench of RLHF-V (arXiv 2312.00849): COCO objects that detailed answers hallucinate.

The official reading is that of `eval/eval_gpt_obj_halbench.py` of RLHF-V/RLHF-V: a judge lists the
objects that an answer mentions (stage 1), and what a parser makes of its phrases is mapped to
COCO's classes with `synonyms_refine.txt` (stage 2). The measures are CHAIR's (arXiv 1809.02156),
with each name counted once per answer.
"""

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from mmpref.benchmarks.chair.score import (
    Rates,
    count_words,
    difference,
    expected,
    find_mentions,
    rates,
    spans,
)
from mmpref.benchmarks.chair.words import Words, classified, merge
from mmpref.benchmarks.object_halbench.items import read_words
from mmpref.errors import InputError
from mmpref.language.words import lemma, singular, tagged, tokens
from mmpref.records.items import Item
from mmpref.scoring import judged
from mmpref.scoring.judge import Call
from mmpref.scoring.metric import Metric
from mmpref.scoring.resources import Resources

PARSER = "en_core_web_trf"

_OWN_PROMPT = Path(__file__).with_name("judge.txt")
# Of the official call, which is repeated up to a hundred times until the reply is a list.
_MAX_TOKENS, _TEMPERATURES = 512, (0.2,) * 5
_NOUNS = ("NN", "NNS", "NNP", "NNPS")

_RATES: Rates = {
    "CHAIRs": (
        *(100, "{}hallucinated_answers", "{}object_answers", "lower"),
        "% of the answers with a COCO object that mention one not in the image{}",
    ),
    "CHAIRi": (
        *(100, "{}hallucinated", "{}mentions", "lower"),
        "% of objects, each once per answer, that are not in the image{}",
    ),
    "Recall": (
        *(100, "{}covered", "{}objects", "higher"),
        "% of the objects in the images that the answers mention{}",
    ),
    "words": (1, "{}words", "items", None, "words per answer"),
}


def calls(item: Item, response: str, resources: Resources) -> list[Call]:
    """Return one call per judge run, none for an answer of at most three words.

    The prompt is ours, or the official one where the benchmark's folder has it, in `prompt.txt`
    (with `{question}` and `{answer}`) or in `eval_gpt_obj_halbench.py`. That one is sent as the
    official script does, as a system message, which not every model takes alone.

    Raises InputError when an official prompt has no place for question or answer.
    """
    answer = _cleaned(response)
    if _is_short(answer):
        return []
    prompt, whose = _prompt(resources)
    # In the official order; the answer last, for it may hold anything.
    prompt = prompt.replace("{question}", item.truth["question"]).replace("{answer}", answer)
    messages = [{"role": "system" if whose == "official" else "user", "content": prompt}]
    return [
        Call(item.id, run, messages, _MAX_TOKENS, _TEMPERATURES)
        for run in range(resources.judge_runs)
    ]


def usable(text: str) -> bool:
    """Return whether a judge's reply holds exactly one JSON list, of strings ("()" is empty)."""
    return parse(text) is not None


def verdict(item: Item, response: str, resources: Resources) -> dict[str, Any]:
    """Return the counts of one answer; with a judge they are sums over the judge's runs.

    Counts: `items` (1), `unparsed`, `differs`, and `words`, `mentions` and `hallucinated` (names,
    each once per answer), `hallucinated_answers`, `object_answers` (answers with a mention),
    `covered` (classes of the image that are mentioned) and `objects` (classes in the image). With
    a judge the official reading's begin with `official_`, and `judge_failures` is the number of
    runs without a usable reply, which count nowhere else. Without one there is one reading, the
    mentions of `chair.find_mentions` in the answer, and its counts begin with `rules_`.

    `parser` names what parsed the judge's phrases for the official reading; with any other than
    spaCy's `en_core_web_trf` its numbers are not official. `judge_prompt` is `official` or
    `mmpref`. The mentions shown are those of the classes that the judge found.
    """
    words, objects = read_words(resources.folder), item.truth["objects"]
    answer, mentions = _cleaned(response), find_mentions(response, words)
    if not resources.judge:
        names = list({mention.word: mention.name for mention in mentions}.values())
        return {
            "items": 1,
            **_counts("rules_", [names], objects),
            "rules_words": count_words(answer),
            "unparsed": int(count_words(answer) == 0),
            "differs": 0,
            "flawed": not set(names) <= set(objects),
            "note": "",
            "expected": expected(objects),
            **spans(mentions, objects),
        }
    official: list[list[str]] = []
    strict: list[list[str]] = []
    notes = []
    for texts in judged.texts(item, resources):
        loose, clean = judged.first(_official_phrases, texts), judged.first(parse, texts)
        if _is_short(answer):
            # Officially such an answer mentions nothing; it is a phrase itself.
            loose, clean = [], [answer]
        if loose is not None:
            official.append([name for _, name in official_names(loose, words)])
        if clean is not None:
            strict.append([name for _, name in strict_names(clean, words)])
            notes.append(
                "the official reading does not take the judge's reply"
                if loose is None
                else difference(official[-1], strict[-1])
            )
    failures = resources.judge_runs - len(strict)
    if failures:
        notes.append(f"no usable reply in {failures} of {resources.judge_runs} runs of the judge")
    named = {name for names in strict for name in names}
    flawed = sum(not set(names) <= set(objects) for names in strict)
    return {
        "items": 1,
        **_counts("official_", official, objects),
        "official_words": len(answer.split(" ")),
        **_counts("", strict, objects),
        "words": count_words(answer),
        "judge_failures": failures,
        "unparsed": int(not strict),
        "differs": int(list(map(Counter, official)) != list(map(Counter, strict))),
        "flawed": 2 * flawed > len(strict),
        "note": "; ".join(dict.fromkeys(filter(None, notes))),
        "expected": expected(objects),
        "judge_prompt": _prompt(resources)[1],
        "parser": _parser_name(),
        **spans([mention for mention in mentions if mention.name in named], objects),
    }


def metrics(columns: set[str]) -> dict[str, Metric]:
    """Return the metrics in percent; the official ones as the summary prints them (`%.2f`).

    CHAIRs is the official "Response Hall" (`CHAIRs_refine`: of answers with an object), CHAIRi
    "Object Hall", Recall "Object Recall" and words "Average Length" (split on single spaces);
    "Response Correct" and "Object Correct" are 100 less the first two. Recall is the recall on
    COCO objects in the main text of the BDHS study (arXiv 2407.02477). Without a judge the metrics
    are a part `rules`, for they are neither reading of the benchmark.
    """
    if "rules_mentions" in columns:
        return rates(_RATES, "rules", "rules_", None, " (found by rule, without a judge)")
    caveat = f" (official only where `parser` is spaCy's {PARSER})"
    official = rates(_RATES, "official", "official_", 2, caveat)
    return official | rates(_RATES, "strict", "", None)


def official_names(phrases: Sequence[Any], words: Words) -> list[tuple[str, str]]:
    """Return the distinct names in the judge's phrases with their classes, as the official stage 2.

    Of each phrase, after "a ", the listed pairs of lemmas count, or without one the runs of
    nouns: "wine glass" in "tall wine glass", but nothing in "tennis player".
    """
    found: list[str] = []
    for phrase in phrases:
        parsed = _parse(f"a {phrase}")
        runs = groupby(parsed, key=lambda pair: pair[1] in _NOUNS)
        pairs = [word for word, paired in merge([word for word, _ in parsed], words) if paired]
        found += pairs or [" ".join(word for word, _ in run) for nouns, run in runs if nouns]
    return classified(list(dict.fromkeys(found)), words)


def strict_names(phrases: Sequence[str], words: Words) -> list[tuple[str, str]]:
    """Return the distinct names that are heads of the phrases, with their classes.

    A name before another noun says what kind of thing that is: a "tennis player" is a person, a
    "dog house" no dog. Beside a toilet a "seat" does not count.
    """
    found = {
        mention.word: mention.name
        for phrase in phrases
        for mention in find_mentions(phrase, words)
        if _is_head(phrase, mention.end)
    }
    return [(word, name) for word, name in found.items() if word != "seat" or "toilet" not in found]


def _is_head(phrase: str, end: int) -> bool:
    """Return whether no noun follows character `end` at once, as NLTK's tagger sees it."""
    before = len(tokens(phrase[:end].lower()))
    after = tagged(tokens(phrase.lower()))[before:]
    return not after or after[0][1] not in _NOUNS


def _counts(start: str, runs: Sequence[Sequence[str]], objects: Sequence[str]) -> dict[str, int]:
    """Return the counts of the names' classes, summed over the judge's runs."""
    hallucinated = [sum(name not in objects for name in names) for names in runs]
    return {
        f"{start}mentions": sum(len(names) for names in runs),
        f"{start}hallucinated": sum(hallucinated),
        f"{start}hallucinated_answers": sum(number > 0 for number in hallucinated),
        f"{start}object_answers": sum(bool(names) for names in runs),
        f"{start}covered": sum(len(set(names) & set(objects)) for names in runs),
        f"{start}objects": len(objects) * len(runs),
    }


def _cleaned(response: str) -> str:
    return response.replace("Assistant:", "").strip()


def _is_short(answer: str) -> bool:
    """Return whether an answer is not put to the judge."""
    return len(answer.split()) <= 3


def _prompt(resources: Resources) -> tuple[str, str]:
    """Return the prompt and whose it is: `official` or `mmpref`."""
    override = resources.folder / "prompt.txt" if resources.folder else None
    if override and override.is_file():
        prompt, whose = override.read_text(encoding="utf-8"), "official"
    else:
        files = ("eval_gpt_obj_halbench.py",)
        prompt, whose = judged.judge_prompt(resources, files, "prompt_template", _OWN_PROMPT)
    for field in ("{question}", "{answer}"):
        if field not in prompt:
            raise InputError(
                f"{override if whose == 'official' else 'the prompt'}: has no {field}; write it "
                "where that belongs, or remove the file to use mmpref's own prompt"
            )
    return prompt, whose


def parse(text: str) -> list[str] | None:
    """Return the strings of the only JSON list in a text, or None."""
    text = text.strip()
    if text == "()":
        return []
    decoder, place, lists = json.JSONDecoder(), 0, []
    while (begin := text.find("[", place)) >= 0:
        try:
            value, place = decoder.raw_decode(text, begin)
        except json.JSONDecodeError:
            return None
        lists.append(value)
    if len(lists) != 1 or not all(isinstance(phrase, str) for phrase in lists[0]):
        return None
    return list(lists[0])


def _official_phrases(text: str) -> list[Any] | None:
    """Return the phrases as the official parser does: any JSON, or that in the last line.

    Of an object these are the keys, of a string the letters. Other JSON ends the official run.
    """
    for candidate in (text, text.strip().split("\n")[-1] if '["' in text else ""):
        try:
            value = json.loads(candidate)
        except ValueError:
            continue
        return list(value) if isinstance(value, list | dict | str) else None
    return None


@lru_cache(maxsize=100_000)
def _parse(phrase: str) -> tuple[tuple[str, str], ...]:
    """Return the lemma and tag of each word, by spaCy where it is installed, otherwise NLTK."""
    nlp = _spacy()
    if nlp is not None:
        return tuple((token.lemma_, token.tag_) for token in nlp(phrase))
    return tuple((_noun(word, tag), tag) for word, tag in tagged(tokens(phrase.lower())))


def _noun(word: str, tag: str) -> str:
    """Return the lemma of a noun, any other word as it is."""
    found = lemma(word) if tag in _NOUNS else word
    # "men" and "people" are nouns of their own in WordNet, and "smartphones" is none.
    return singular(word) if found == word and tag in ("NNS", "NNPS") else found


def _parser_name() -> str:
    nlp = _spacy()
    return f"{PARSER} {nlp.meta['version']}" if nlp is not None else f"nltk (not {PARSER})"


@cache
def _spacy() -> Any:
    """Return spaCy's pipeline, or None where it is not installed."""
    try:
        import spacy

        return spacy.load(PARSER)
    except (ImportError, OSError):
        return None
