"""Preference pairs as token ids and pixels."""

from collections.abc import Iterable, Mapping, Sequence

from PIL import Image

from mmpref.errors import InputError
from mmpref.logprobs.forward import Example
from mmpref.models import Processor
from mmpref.records.rows import Pair


def encode(
    processor: Processor,
    pair: Pair,
    images: Mapping[str, Sequence[Image.Image]],
    answers: Iterable[str] | None = None,
) -> Example:
    """Return a pair as token ids and pixels, its prompt once for each entry of `images`.

    `answers` names the ones that are needed, by default all that the pair has.

    Raises:
        InputError: prompt and answer are longer than the model can look back. Nothing is cut off
            silently: a cut answer would have another log-probability.
    """
    try:
        prompts = {
            name: processor.encode_prompt(pair.prompt, those) for name, those in images.items()
        }
        names = pair.answers if answers is None else answers
        encoded = {name: processor.encode_answer(pair.answers[name]) for name in names}
    except InputError as error:
        raise InputError(f"pair {pair.id}: {error}") from None
    longest = max(map(len, prompts.values())) + max(map(len, encoded.values()))
    if longest > processor.context_length:
        raise InputError(
            f"pair {pair.id}: image, prompt and answer are {longest} tokens, the model looks back "
            f"{processor.context_length}; remove the pair or shorten its texts"
        )
    return Example(pair.id, prompts, encoded)
