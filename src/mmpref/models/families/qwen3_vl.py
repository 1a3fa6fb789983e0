"""Qwen3-VL (arXiv 2511.21631): Qwen2.5-VL's positions, and features that are added later on."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import Qwen3VLProcessor

from mmpref.models.families.qwen2_5_vl import Qwen, WithoutVideos
from mmpref.models.family import Prompt, join_pixels


class ImageProcessor(WithoutVideos, Qwen3VLProcessor):
    """Qwen3-VL's."""


class Deepstack(Qwen):
    """Features of earlier layers of the vision tower are added in the first decoder layers.

    Source: DeepStack, arXiv 2406.04334. They stand beside the features that come first:
    [image tokens, (1 + layers) * H].
    """

    processor_class: ClassVar[Any] = ImageProcessor

    @property
    def feature_width(self) -> int:
        """How wide the features of an image token are."""
        return super().feature_width * (1 + len(self.config.vision_config.deepstack_visual_indexes))

    def image_features(self, model: Any, prompts: Sequence[Prompt], device: torch.device) -> Tensor:
        """Return the features [image tokens, (1 + layers) * H] of all images of `prompts`."""
        pixels = join_pixels(prompts, device, model.dtype)
        found = model.get_image_features(**pixels, return_dict=True)
        layers = (found.pooler_output, *found.deepstack_features)
        return torch.cat([torch.cat(images) for images in layers], -1)

    def decoder_inputs(self, is_image: Tensor, features: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Return what takes the place of image tokens, and what the decoder adds in its layers."""
        first, *later = features.split(super().feature_width, -1)
        return first, {"visual_pos_masks": is_image[None], "deepstack_visual_embeds": later}

    def projectors(self, model: Any) -> list[str]:
        """Return the names of the parts that make patches tokens, after each of the layers."""
        layers = range(len(self.config.vision_config.deepstack_visual_indexes))
        later = [f"visual.deepstack_merger_list.{number}" for number in layers]
        return [*super().projectors(model), *later]
