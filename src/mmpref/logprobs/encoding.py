"""Preference pairs as token ids and pixels."""

from collections.abc import Mapping, Sequence

from PIL import Image

from mmpref.errors import InputError
from mmpref.logprobs.forward import Example
from mmpref.models import VisionLanguageModel
from mmpref.records.rows import Pair


def encode(
    vlm: VisionLanguageModel, pair: Pair, images: Mapping[str, Sequence[Image.Image]]
) -> Example:
    """Return a pair as token ids and pixels, its prompt once for each entry of `images`.

    Raises:
        InputError: prompt and answer are longer than the model can look back. Nothing is cut off
            silently: a cut answer would have another log-probability.
    """
    try:
        prompts = {name: vlm.encode_prompt(pair.prompt, those) for name, those in images.items()}
        answers = {name: vlm.encode_answer(text) for name, text in pair.answers.items()}
    except InputError as error:
        raise InputError(f"pair {pair.id}: {error}") from None
    longest = max(map(len, prompts.values())) + max(map(len, answers.values()))
    limit = vlm.model.config.get_text_config().max_position_embeddings
    if longest > limit:
        raise InputError(
            f"pair {pair.id}: image, prompt and answer are {longest} tokens, the model looks back "
            f"{limit}; remove the pair or shorten its texts"
        )
    return Example(pair.id, prompts, answers)
