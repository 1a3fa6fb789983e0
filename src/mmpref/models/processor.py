"""Texts and images to tokens and pixels, and back: all that a loader worker needs of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoProcessor

from mmpref.errors import InputError
from mmpref.models.family import Family, Prompt, family_of


@dataclass(frozen=True, eq=False)
class Processor:
    """The processor of transformers (`hf`) and the family: no weights, and can be pickled."""

    hf: Any
    family: Family
    name: str = "model"

    @classmethod
    def load(cls, folder: str | Path) -> "Processor":
        """Load the processor in a model folder; no code from the folder is run.

        Raises:
            InputError: there is no model, or one of a family that is not supported.
        """
        family = family_of(folder)
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: cannot be loaded as a model: {error}") from error
        return cls(processor, family(config), str(folder))

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.hf.tokenizer

    @property
    def image_token_id(self) -> int:
        """The id that stands where image features go."""
        return self.family.config.image_token_id

    @property
    def stop_token_ids(self) -> list[int]:
        """The ids that end an answer."""
        return self.family.stop_token_ids(self.tokenizer)

    @property
    def eos_token_id(self) -> int:
        """The id that ends an answer that is trained on."""
        return self.stop_token_ids[0]

    @property
    def context_length(self) -> int:
        """How many tokens the model can look back."""
        return self.family.config.get_text_config().max_position_embeddings

    @property
    def unsampled_token_ids(self) -> list[int]:
        """Ids that an answer must never contain: special tokens and ids without a token.

        An image token sampled into an answer would ask for image features that do not exist.
        """
        special = {
            token_id
            for token_id, token in self.tokenizer.added_tokens_decoder.items()
            if token.special
        }
        special |= {self.image_token_id, *self.tokenizer.all_special_ids}
        vocabulary = self.family.config.get_text_config().vocab_size
        special |= set(range(len(self.tokenizer), vocabulary))
        return sorted(special - set(self.stop_token_ids))

    def encode_prompt(self, question: str, images: Sequence[Image.Image] = ()) -> Prompt:
        """Encode a question about `images` in the model's chat template.

        Raises:
            InputError: the question contains the model's image placeholder.
        """
        self._refuse_placeholder(question, "prompt")
        return self.family.encode_prompt(self.hf, question, images)

    def encode_answer(self, answer: str) -> Tensor:
        """Return the ids [R] of an answer, the end-of-sequence token included.

        Raises:
            InputError: the answer contains the model's image placeholder.
        """
        self._refuse_placeholder(answer, "answer")
        token_ids = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
        return torch.tensor([*token_ids, self.eos_token_id])

    def decode(self, token_ids: Tensor | Sequence[int]) -> str:
        """Return the text of an answer's ids; special tokens are left out."""
        return self.tokenizer.decode(
            token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def _refuse_placeholder(self, text: str, field_name: str) -> None:
        placeholder = self.tokenizer.convert_ids_to_tokens(self.image_token_id)
        if placeholder in text:
            raise InputError(
                f"{field_name} {text[:60]!r} contains {placeholder}, which stands for an image; "
                "remove it from the text: images are given in the `images` field"
            )
