"""What differs between families of models: by default nothing, else `families/<model_type>.py`."""

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoProcessor, BatchFeature, PreTrainedModel

from mmpref.errors import InputError
from mmpref.study.models import families


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


class Family:
    """The LLaVA pattern, for a model with this `config` (of transformers).

    A vision tower, a projector, image features put in the place of image tokens, positions that
    count tokens. A subclass overrides what differs (`docs/adding-a-family.md`).
    """

    processor_class: ClassVar[Any] = AutoProcessor
    """What loads the processor of transformers."""
    images_see_themselves: ClassVar[bool] = False
    """Whether the tokens of an image see those of the same image that come after them."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def encode_prompt(self, processor: Any, question: str, images: Sequence[Image.Image]) -> Prompt:
        """Encode a question about images with the `processor` of transformers and its template."""
        content: list[dict[str, str]] = [{"type": "image"} for _ in images]
        content.append({"type": "text", "text": question})
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        bos = processor.tokenizer.bos_token
        encoded = processor(
            text=text,
            images=list(images) or None,
            return_tensors="pt",
            # Some templates write the token that begins a text, others leave it to the tokenizer.
            add_special_tokens=not (bos and text.startswith(bos)),
        )
        input_ids = encoded["input_ids"][0]
        pixels = {name: encoded[name] for name in encoded if "pixel" in name or "image" in name}
        return Prompt(input_ids, input_ids == self.config.image_token_id, pixels)

    def answer_tokenizer(self, tokenizer: Any) -> Any:
        """Return what encodes an answer as `tokenizer` would after a prompt."""
        return tokenizer

    def stop_token_ids(self, tokenizer: Any) -> list[int]:
        """Return the ids that end an answer; the first one ends the answers that are trained on."""
        return [tokenizer.eos_token_id]

    def positions(self, prompt: Prompt) -> Tensor:
        """Return the position ids of a prompt's tokens: [P], or [axes, P] where there are axes."""
        return torch.arange(len(prompt))

    def answer_positions(self, positions: Tensor, count: int) -> Tensor:
        """Return the position ids [count] or [axes, count] of an answer after a prompt's [P]."""
        after = positions.max() + 1 + torch.arange(count)
        return after.expand(*positions.shape[:-1], count)

    @property
    def feature_width(self) -> int:
        """How wide the features of an image token are."""
        return self.config.get_text_config().hidden_size

    def image_features(self, model: Any, prompts: Sequence[Prompt], device: torch.device) -> Tensor:
        """Return the features [image tokens, width] of all images of `prompts`, in order."""
        pixels = join_pixels(prompts, device, model.dtype)
        features = model.get_image_features(**pixels, return_dict=True).pooler_output
        return torch.cat([feature.reshape(-1, feature.shape[-1]) for feature in features])

    def decoder_inputs(self, is_image: Tensor, features: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Return what takes the place of image tokens, and what else the decoder is given.

        `is_image` [N] marks the tokens with `features` [image tokens, width] among N; the first is
        [image tokens, H].
        """
        return features, {}

    def lora_targets(self, model: Any) -> list[str]:
        """Return the names of the linear layers that get LoRA: all of the language model."""
        linear = {part for part in model.get_decoder().modules() if isinstance(part, nn.Linear)}
        return [name for name, module in model.named_modules() if module in linear]

    def projectors(self, model: Any) -> list[str]:
        """Return the names of the modules between vision tower and language model."""
        return [
            name
            for name, module in model.base_model.named_children()
            if not isinstance(module, PreTrainedModel) and list(module.parameters())
        ]


def family_of(folder: str | Path) -> type[Family]:
    """Return the family of the model in a folder, by the `model_type` of its config.json.

    Raises:
        InputError: there is no model, or one of a family that is not supported.
    """
    file = Path(folder) / "config.json"
    try:
        model_type = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except FileNotFoundError:
        raise InputError(f"{folder}: no model here (config.json is missing)") from None
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{file}: cannot be read: {error}; download the model again") from None
    supported = families()
    if model_type not in supported:
        raise InputError(
            f"{file}: models of type {model_type!r} are not supported; supported are "
            f"{', '.join(supported)}, another needs a file in mmpref/models/families"
        )
    if supported[model_type] is None:
        return Family
    module = importlib.import_module(f"mmpref.models.families.{model_type}")
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    own = [kind for kind in classes if kind.__module__ == module.__name__]
    (found,) = (kind for kind in own if issubclass(kind, Family))
    return found


def join_pixels(
    prompts: Sequence[Prompt], device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return the processor's tensors of all images of `prompts`, as the model takes them."""
    with_images = [prompt.pixels for prompt in prompts if prompt.pixels]
    names = with_images[0] if with_images else ()
    pixels = {name: _join([tensors[name] for tensors in with_images]) for name in names}
    return dict(BatchFeature(pixels).to(device, dtype))


def _join(tensors: list[Tensor]) -> Tensor:
    """Concatenate along images; a differing number of tiles per image is padded with zeros."""
    if tensors[0].dim() < 5:
        return torch.cat(tensors)
    images = [image for tensor in tensors for image in tensor]
    return nn.utils.rnn.pad_sequence(images, batch_first=True)
