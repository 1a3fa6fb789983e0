"""InternVL3 (arXiv 2504.10479), the checkpoints whose name ends with -hf."""

from typing import Any

from transformers import InternVLProcessor

from mmpref.models.family import Family


class ImageProcessor(InternVLProcessor):
    """The processor without its part for videos, which needs torchvision."""

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        image_seq_length: int = 256,
        chat_template: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            image_processor, tokenizer, None, image_seq_length, chat_template, **options
        )


class InternVL(Family):
    """As LLaVA; an image is as many tiles as suit its shape, and a small copy of the whole."""

    processor_class = ImageProcessor
