"""A multimodal language model as the rest of the project sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from mmpref.errors import InputError
from mmpref.models.family import Family, Prompt
from mmpref.models.processor import Processor


@dataclass(eq=False)
class VisionLanguageModel:
    """A model with its processor, and the few operations everything else is made of."""

    model: Any
    processor: Processor
    name: str = "model"

    @classmethod
    def load(
        cls, folder: str | Path, dtype: torch.dtype = torch.float32, device: str | None = None
    ) -> "VisionLanguageModel":
        """Load a model folder (safetensors and processor); no code from the folder is run.

        Without a `device` it goes to a GPU if there is one.

        Raises:
            InputError: the folder is missing or is not a model of a supported kind.
        """
        processor = Processor.load(folder)
        try:
            model = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True
            )
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: cannot be loaded as a model: {error}") from error
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model.to(torch.device(device))  # type: ignore[arg-type]
        return cls(model.eval(), processor, str(folder))

    @property
    def family(self) -> Family:
        """What is particular to this kind of model."""
        return self.processor.family

    @property
    def device(self) -> torch.device:
        """Where the embeddings lie."""
        return self.model.get_input_embeddings().weight.device

    @property
    def language_model(self) -> nn.Module:
        """The decoder without its head."""
        return self.model.get_decoder()

    @property
    def lm_head(self) -> nn.Module:
        """The output head, from hidden states to logits."""
        return self.model.get_output_embeddings()

    def image_features(self, prompts: Sequence[Prompt]) -> list[Tensor]:
        """Return the projected features [image tokens, H] of each prompt, all in one pass."""
        lengths = [int(prompt.is_image.sum()) for prompt in prompts]
        if not any(prompt.pixels for prompt in prompts):
            # Not from the weights: ZeRO-3 leaves them empty until a module runs.
            width = self.model.config.get_text_config().hidden_size
            return [torch.zeros(0, width, device=self.device) for _ in prompts]
        flat = self.family.image_features(self.model, prompts, self.device)
        if sum(lengths) != len(flat):
            raise RuntimeError(
                f"{self.name}: the processor made {sum(lengths)} image tokens for "
                f"{len(flat)} image features; processor and model do not belong together"
            )
        return list(flat.split(lengths))

    def embed(self, input_ids: Tensor, is_image: Tensor, features: Tensor) -> Tensor:
        """Return embeddings [N, H] of tokens [N], with features [image tokens, H] put in."""
        # The placeholder may lie outside of the embedding table; any other id will do.
        text_ids = input_ids.masked_fill(is_image, 0).to(self.device)
        embeddings = self.model.get_input_embeddings()(text_ids)
        return embeddings.masked_scatter(
            is_image.to(self.device)[:, None], features.to(embeddings.dtype)
        )
