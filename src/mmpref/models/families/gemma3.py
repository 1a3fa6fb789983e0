"""Gemma 3 (arXiv 2503.19786): the tokens of an image see each other, most layers only so far."""

from typing import Any

from mmpref.models.family import Family


class Gemma3(Family):
    """An image is a fixed number of tokens; it is not cut ("pan and scan" is off by default)."""

    images_see_themselves = True

    def stop_token_ids(self, tokenizer: Any) -> list[int]:
        """Return the ids of `<end_of_turn>` and `<eos>`."""
        return [tokenizer.convert_tokens_to_ids("<end_of_turn>"), tokenizer.eos_token_id]
