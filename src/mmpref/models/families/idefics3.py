"""Idefics3 and SmolVLM's first version (arXiv 2408.12637, 2504.05299): images cut into tiles."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import decoders, normalizers
from torch import Tensor
from transformers import BatchFeature

from mmpref.models.family import Family, Prompt


class Idefics3(Family):
    """An image is its tiles and a small copy of the whole, each introduced by a token of its own.

    Only the tokens that features take the place of count as image tokens: those that tell row and
    column of a tile are text.
    """

    def answer_tokenizer(self, tokenizer: Any) -> Any:
        """Return a tokenizer that begins an answer with a space, and takes it off again.

        The template asks for an answer with `Assistant:`, and answers are written `Assistant: Yes`.
        """
        own = copy.deepcopy(tokenizer)
        backend = own.backend_tokenizer
        steps = [backend.normalizer] if backend.normalizer else []
        backend.normalizer = normalizers.Sequence([*steps, normalizers.Prepend(" ")])
        backend.decoder = decoders.Sequence([backend.decoder, decoders.Strip(" ", 1, 0)])
        return own

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
