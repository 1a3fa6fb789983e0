"""A multimodal language model as the rest of the project sees it.

Families of the LLaVA pattern (vision tower, projector, image features put in the place of image
tokens, one-dimensional positions) need no code of their own: the processor says how many image
tokens an image takes, and `get_image_features` returns as many vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor

from mmpref.errors import InputError


@dataclass(frozen=True)
class Prompt:
    """A question about images, up to where the answer begins.

    `input_ids` [P] holds one id per token and image token, `is_image` [P] marks the image tokens,
    `pixels` holds the processor's tensors (empty without images).
    """

    input_ids: Tensor
    is_image: Tensor
    pixels: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(eq=False)
class VisionLanguageModel:
    """A model with its processor, and the few operations everything else is made of."""

    model: Any
    processor: Any
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
        if not (Path(folder) / "config.json").is_file():
            raise InputError(f"{folder}: no model here (config.json is missing)")
        try:
            model = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True
            )
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: cannot be loaded as a model: {error}") from error
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model.to(torch.device(device))  # type: ignore[arg-type]
        return cls(model.eval(), processor, str(folder))

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the processor."""
        return self.processor.tokenizer

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

    @property
    def image_token_id(self) -> int:
        """The id that stands where image features go."""
        return self.model.config.image_token_id

    @property
    def eos_token_id(self) -> int:
        """The id that ends an answer."""
        return self.tokenizer.eos_token_id

    @cached_property
    def unsampled_token_ids(self) -> Tensor:
        """Ids that an answer must never contain: special tokens and ids without a token.

        An image token sampled into an answer would ask for image features that do not exist.
        """
        special = {
            token_id
            for token_id, token in self.tokenizer.added_tokens_decoder.items()
            if token.special
        }
        special |= {self.image_token_id, *self.tokenizer.all_special_ids}
        special |= set(range(len(self.tokenizer), self.model.config.get_text_config().vocab_size))
        return torch.tensor(sorted(special - {self.eos_token_id}), device=self.device)

    def encode_prompt(self, question: str, images: Sequence[Image.Image] = ()) -> Prompt:
        """Encode a question about `images` in the model's chat template.

        Raises:
            InputError: the question contains the model's image placeholder.
        """
        self._refuse_placeholder(question, "prompt")
        content: list[dict[str, str]] = [{"type": "image"} for _ in images]
        content.append({"type": "text", "text": question})
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        bos = self.tokenizer.bos_token
        encoded = self.processor(
            text=text,
            images=list(images) or None,
            return_tensors="pt",
            # Some templates write the token that begins a text, others leave it to the tokenizer.
            add_special_tokens=not (bos and text.startswith(bos)),
        )
        input_ids = encoded.pop("input_ids")[0]
        pixels = {
            name: value for name, value in encoded.items() if "pixel" in name or "image" in name
        }
        return Prompt(input_ids, input_ids == self.image_token_id, pixels)

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

    def image_features(self, prompts: Sequence[Prompt]) -> list[Tensor]:
        """Return the projected features [image tokens, H] of each prompt, all in one pass."""
        # Not from the weights: ZeRO-3 leaves them empty until a module runs.
        width = self.model.config.get_text_config().hidden_size
        pixels = join_pixels(prompts, self.device, self.model.dtype)
        if not pixels:
            return [torch.zeros(0, width, device=self.device) for _ in prompts]
        features = self.model.get_image_features(**pixels, return_dict=True).pooler_output
        flat = torch.cat([feature.reshape(-1, width) for feature in features])
        lengths = [int(prompt.is_image.sum()) for prompt in prompts]
        if sum(lengths) != len(flat):
            raise RuntimeError(
                f"{self.name}: the processor made {sum(lengths)} image tokens for "
                f"{len(flat)} image features; processor and model do not belong together"
            )
        return list(flat.split(lengths))

    def embed(self, prompt: Prompt, features: Tensor, answer: Tensor | None = None) -> Tensor:
        """Return input embeddings [P + R, H] of a prompt with its image features put in."""
        input_ids, is_image = prompt.input_ids, prompt.is_image
        if answer is not None:
            input_ids = torch.cat([input_ids, answer])
            is_image = torch.cat([is_image, torch.zeros_like(answer, dtype=torch.bool)])
        # The placeholder may lie outside of the embedding table; any other id will do.
        text_ids = input_ids.masked_fill(is_image, 0).to(self.device)
        embeddings = self.model.get_input_embeddings()(text_ids)
        return embeddings.masked_scatter(
            is_image.to(self.device)[:, None], features.to(embeddings.dtype)
        )

    def _refuse_placeholder(self, text: str, field_name: str) -> None:
        placeholder = self.tokenizer.convert_ids_to_tokens(self.image_token_id)
        if placeholder in text:
            raise InputError(
                f"{field_name} {text[:60]!r} contains {placeholder}, which stands for an image; "
                "remove it from the text: images are given in the `images` field"
            )


def join_pixels(
    prompts: Sequence[Prompt], device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return the processor's tensors of all images of `prompts`, as the model takes them."""
    with_images = [prompt.pixels for prompt in prompts if prompt.pixels]
    if not with_images:
        return {}
    pixels = {
        name: _join([tensors[name] for tensors in with_images]).to(device)
        for name in with_images[0]
    }
    return {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in pixels.items()
    }


def _join(tensors: list[Tensor]) -> Tensor:
    """Concatenate along images; a differing number of tiles per image is padded with zeros."""
    if tensors[0].dim() < 5:
        return torch.cat(tensors)
    tiles = max(tensor.shape[1] for tensor in tensors)
    return torch.cat(
        [
            nn.functional.pad(tensor, (0,) * (2 * tensor.dim() - 4) + (0, tiles - tensor.shape[1]))
            for tensor in tensors
        ]
    )
