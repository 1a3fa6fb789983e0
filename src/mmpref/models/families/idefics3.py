"""Idefics3 and SmolVLM's first version (arXiv 2408.12637, 2504.05299): images cut into tiles."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature

from mmpref.models.family import Family, Prompt


class Idefics3(Family):
    """An image is its tiles and a small copy of the whole, each introduced by a token of its own.

    Only the tokens that features take the place of count as image tokens: those that tell row and
    column of a tile are text.
    """

    # In the template, `Assistant: ` opens an answer, but only `Assistant:` asks for one.
    answer_start = " "

    def stop_token_ids(self, tokenizer: Any) -> list[int]:
        """Return the ids of `<end_of_utterance>` and, where it is another, of the end of a text."""
        end = tokenizer.convert_tokens_to_ids("<end_of_utterance>")
        return list(dict.fromkeys([end, tokenizer.eos_token_id]))

    def image_features(self, model: Any, prompts: Sequence[Prompt], device: torch.device) -> Tensor:
        """Return the projected features [image tokens, H] of all tiles of `prompts`, in order."""
        pixels = [prompt.pixels for prompt in prompts if prompt.pixels]
        # Tiles [1, tiles, ...] lie along the second axis, and are all of one size.
        joined = {name: torch.cat([own[name] for own in pixels], dim=1) for name in pixels[0]}
        tiles = BatchFeature(joined).to(device, model.dtype)
        return torch.cat(model.get_image_features(**tiles, return_dict=True).pooler_output)
