"""A multimodal language model as the rest of the project sees it, and its processor."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForImageTextToText

from mmpref.errors import InputError
from mmpref.models.family import Family, Prompt, family_of
from mmpref.models.placement import place, rooms


class ControlToken(InputError):
    """A text holds what the tokenizer makes a control token of, as `<|im_end|>`, or an image.

    `reason` is a predicate that says which.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(reason, text)
        self.reason = reason

    def __str__(self) -> str:
        return f"the text {self.args[1][:60]!r} {self.reason}; remove it there"


class Processor:
    """Texts and images to tokens and pixels, and back: no weights, and can be pickled.

    `hf` is the processor of transformers, `tokenizer` that of answers. `image_token_id` stands
    where image features go, `stop_token_ids` end an answer, `eos_token_id` ends one that is trained
    on. No answer may hold `unsampled_token_ids`: special tokens (images would lack their features),
    ids without a token. Nor may a text that is encoded: what users and data say is text, never the
    end of a turn or an image.
    """

    def __init__(self, hf: Any, family: Family) -> None:
        self.hf = hf
        self.family = family
        self.tokenizer = family.answer_tokenizer(hf.tokenizer)
        self.image_token_id: int = family.config.image_token_id
        self.stop_token_ids = family.stop_token_ids(self.tokenizer)
        self.eos_token_id = self.stop_token_ids[0]
        added = self.tokenizer.added_tokens_decoder.items()
        vocabulary = family.config.get_text_config().vocab_size
        unsampled = {
            *(token_id for token_id, token in added if token.special),
            *(self.image_token_id, *self.tokenizer.all_special_ids),
            *range(len(self.tokenizer), vocabulary),
        }
        # Image tokens too: those that features replace, and what the processor replaces by them.
        control = {
            *(token.content for _, token in added if token.special),
            *self.tokenizer.all_special_tokens,
            *(self.tokenizer.convert_ids_to_tokens(self.image_token_id), hf.image_token),
        }
        self._control = re.compile("|".join(map(re.escape, sorted(control, key=len, reverse=True))))
        # An image token may lie beyond the vocabulary (Bunny's does): there is no logit for it.
        self.unsampled_token_ids = sorted(
            {token_id for token_id in unsampled if token_id < vocabulary} - set(self.stop_token_ids)
        )

    @classmethod
    def load(cls, folder: str | Path) -> "Processor":
        """Load the processor in a model folder; no code from the folder is run.

        Raises:
            InputError: there is no model, or one of a family that is not supported.
        """
        family = family_of(folder)
        config = _pretrained(AutoConfig, folder)
        return cls(_pretrained(family.processor_class, folder), family(config))

    @property
    def context_length(self) -> int:
        """How many tokens the model can look back."""
        return self.family.config.get_text_config().max_position_embeddings

    def encode_prompt(self, question: str, images: Sequence[Image.Image] = ()) -> Prompt:
        """Encode a question about `images` in the model's chat template.

        Raises:
            ControlToken: the question holds one, or stands for an image.
        """
        self._refuse_control(question)
        return self.family.encode_prompt(self.hf, question, images)

    def encode_answer(self, answer: str) -> Tensor:
        """Return the ids [R] of an answer, the end-of-sequence token included.

        Raises:
            ControlToken: the answer holds one, or stands for an image.
        """
        self._refuse_control(answer)
        token_ids = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
        return torch.tensor([*token_ids, self.eos_token_id])

    def decode(self, token_ids: Tensor | Sequence[int]) -> str:
        """Return the text of an answer's ids; special tokens are left out."""
        return self.tokenizer.decode(
            token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def _refuse_control(self, text: str) -> None:
        if found := self._control.search(text):
            raise ControlToken(f"holds a control token of the model ({found[0]})", text)


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
        """Load a model folder; no code from it is run.

        By default onto a GPU if there is one, and where that has no room for it, spread over all
        that there are (`mmpref.models.placement`).

        Raises:
            InputError: the folder is missing or is not a model of a supported kind, or the GPU is
                too small.
        """
        processor = Processor.load(folder)
        model = _pretrained(AutoModelForImageTextToText, folder, dtype=dtype, use_safetensors=True)
        if device is None:
            place(model, str(folder), rooms())
        else:
            model.to(device)
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
        """Return the features [image tokens, width] of each prompt, all in one pass."""
        lengths = [int(prompt.is_image.sum()) for prompt in prompts]
        if not any(prompt.pixels for prompt in prompts):
            width = self.family.feature_width
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


def _pretrained(kind: Any, folder: str | Path, **options: Any) -> Any:
    try:
        return kind.from_pretrained(folder, local_files_only=True, **options)
    except ImportError as error:
        # The first sentence names it, the others are about websites.
        reason = str(error).split(". ")[0].strip()
        raise InputError(
            f"{folder}: needs a package that is not installed ({reason}); install it with pip in "
            "this environment"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: cannot be loaded as a model: {error}") from error
