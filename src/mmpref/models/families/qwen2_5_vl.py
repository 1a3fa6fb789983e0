"""Qwen2.5-VL: positions with three axes (time, row, column), as in its paper's section 2.1."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2_5_VLProcessor

from mmpref.models.family import Family, Prompt


class ImageProcessor(Qwen2_5_VLProcessor):
    """The processor without its part for videos, which needs torchvision."""

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(image_processor, tokenizer, None, chat_template, **options)
