"""A pair as token ids and pixels, or why a model cannot be given it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PIL import Image

from mmpref.errors import InputError
from mmpref.logprobs.forward import Example
from mmpref.models import ControlToken, Processor
from mmpref.records.rows import Pair


class Unfit(InputError):
    """A pair that a model cannot be given as it is: kept out by rule where that is counted.

    `facts` are JSON: the pair's `id`, the `field` and the `reason`, a predicate; of one that is too
    long also its `prompt_tokens`, `answer_tokens` (of the longest answer) and the `limit`.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__(facts)
        self.facts = facts

    def __str__(self) -> str:
        return "pair {id}, {field}: {reason}; shorten or correct it".format(**self.facts)


def encode(
    processor: Processor,
    pair: Pair,
    images: Mapping[str, Sequence[Image.Image]],
    answers: Iterable[str],
    limit: int,
) -> Example:
    """Return a pair as token ids and pixels, its prompt once for each entry of `images`.

    Raises:
        Unfit: a text holds a control token, or the longest prompt and answer are more than `limit`
            tokens: a cut answer would have another log-probability.
        InputError: the pair lacks one of `answers`.
    """
    names = list(answers)
    for name in names:
        if name not in pair.answers:
            raise InputError(
                f"pair {pair.id}: has no answer {name}, which the objective asks for; "
                "give the pair one, or choose another objective"
            )
    try:
        prompts = {
            name: processor.encode_prompt(pair.prompt, those) for name, those in images.items()
        }
    except ControlToken as error:
        raise Unfit({"id": pair.id, "field": "prompt", "reason": error.reason}) from None
    encoded = {}
    for name in names:
        try:
            encoded[name] = processor.encode_answer(pair.answers[name])
        except ControlToken as error:
            raise Unfit({"id": pair.id, "field": name, "reason": error.reason}) from None
    prompt = max(map(len, prompts.values()))
    longest = max(encoded, key=lambda name: len(encoded[name]))
    tokens = len(encoded[longest])
    if prompt + tokens > limit:
        raise Unfit(
            {
                "id": pair.id,
                "field": longest,
                "reason": f"is too long ({prompt} tokens of image and prompt and {tokens} of the "
                f"answer, at most {limit} in all)",
                "prompt_tokens": prompt,
                "answer_tokens": tokens,
                "limit": limit,
            }
        )
    return Example(pair.id, prompts, encoded)
