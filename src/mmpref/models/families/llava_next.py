"""LLaVA-NeXT (LLaVA-1.6): an image is tiles and an overview, its 34B writes ChatML."""

import copy
from typing import Any

from tokenizers import pre_tokenizers

from mmpref.models.family import Family


class LlavaNext(Family):
    """LLaVA, but for the first word of an answer of the 34B."""

    def answer_tokenizer(self, tokenizer: Any) -> Any:
        """Return the tokenizer of a model's answers, of which no text begins with a space in ChatML.

        Llama's puts a space before a text, as other templates have one there; ChatML has a line
        break, after which a word is written by another token.
        """
        backend = tokenizer.backend_tokenizer
        spaced = isinstance(backend.pre_tokenizer, pre_tokenizers.Metaspace)
        if not spaced or tokenizer.eos_token != "<|im_end|>":
            return tokenizer
        own = copy.deepcopy(tokenizer)
        own.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
            prepend_scheme="never", split=False
        )
        return own
