"""Qwen2.5-VL (arXiv 2502.13923): positions have three axes, images as many tokens as they need."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import Qwen2_5_VLProcessor

from mmpref.models.family import Family, Prompt


class WithoutVideos:
    """A processor without its part for videos, which needs torchvision; stands before its class."""

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(image_processor, tokenizer, None, chat_template, **options)  # type: ignore[call-arg]


class ImageProcessor(WithoutVideos, Qwen2_5_VLProcessor):
    """Qwen2.5-VL's."""


class Qwen(Family):
    """Time, row and column of a token; those of text are one number, which counts on from images.

    Source: multimodal rotary positions of Qwen2-VL, arXiv 2409.12191, section 2.1.
    """

    processor_class: ClassVar[Any] = ImageProcessor

    def positions(self, prompt: Prompt) -> Tensor:
        """Return the positions [3, P]."""
        merged = self.config.vision_config.spatial_merge_size
        grids = iter(prompt.pixels["image_grid_thw"][:, 1:] // merged if prompt.pixels else ())
        parts, following = [], 0
        for is_image, count in zip(
            *torch.unique_consecutive(prompt.is_image, return_counts=True), strict=True
        ):
            if is_image:
                rows, columns = next(grids).tolist()
                place = torch.arange(rows * columns)
                own = torch.stack([torch.zeros_like(place), place // columns, place % columns])
            else:
                own = torch.arange(int(count)).expand(3, -1)
            parts.append(following + own)
            following += int(own.max()) + 1
        return torch.cat(parts, -1)

    def stop_token_ids(self, tokenizer: Any) -> list[int]:
        """Return the ids of `<|im_end|>` and `<|endoftext|>`."""
        return [tokenizer.eos_token_id, tokenizer.pad_token_id]

    def projectors(self, model: Any) -> list[str]:
        """Return the name of the tower's last part, which makes patches tokens."""
        return ["visual.merger"]
