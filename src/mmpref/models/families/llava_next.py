"""LLaVA-NeXT (LLaVA-1.6): an image is tiles and an overview, its 34B writes ChatML."""

import copy
from typing import Any

from tokenizers import pre_tokenizers

from mmpref.models.family import Family


class LlavaNext(Family):
    """LLaVA, but for the first word of an answer after ChatML."""

    def answer_tokenizer(self, tokenizer: Any) -> Any:
        """Return the model's tokenizer, in ChatML without the space that it puts before a text.

        In other templates a space stands before an answer; in ChatML it is a line break, after
        which the first word is another token.
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
