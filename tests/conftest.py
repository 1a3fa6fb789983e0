"""Tiny random models of several families, built in the real format."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Processes that tests start find the library too; one thread each, for two cores.
os.environ["PYTHONPATH"] = str(Path(__file__).parents[1] / "src")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from mmpref.models import Processor, VisionLanguageModel
from mmpref.models.family import Family

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endif %}"
    "{{ '<eos>' if message['role'] == 'assistant' else '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, so that every text can be encoded and comes back unchanged."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
        chat_template=TEMPLATE,
    )


def tiny_vlm(family: str, seed: int = 0) -> VisionLanguageModel:
    """A random model of a family (`llava`, `llava_next`) with images of 16 pixels."""
    torch.manual_seed(seed)
    tokenizer = byte_tokenizer()
    image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=4,
        projection_dim=16,
        initializer_range=0.3,
    )
    size = {"shortest_edge": 16}
    crop = {"height": 16, "width": 16}
    shared = {"patch_size": 4, "vision_feature_select_strategy": "default"}
    extra = {"num_additional_image_tokens": 1, "chat_template": TEMPLATE}
    model: Any
    images: Any
    processor: Any
    # Of the options of configurations, mypy knows some only.
    named: Any = {"image_token_id": image_token_id, "pad_token_id": tokenizer.pad_token_id}
    config: Any
    if family == "llava":
        config = LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_seq_length=16,
            **named,
        )
        model = LlavaForConditionalGeneration(config)
        images = CLIPImageProcessorPil(size=size, crop_size=crop)
        processor = LlavaProcessor(images, tokenizer, **shared, **extra)
    else:
        pinpoints = [[16, 32], [32, 16], [32, 32]]
        config = LlavaNextConfig(
            vision_config=vision,
            text_config=text,
            image_grid_pinpoints=pinpoints,
            image_seq_length=16,
            **named,
        )
        model = LlavaNextForConditionalGeneration(config)
        images = LlavaNextImageProcessorPil(
            size=size, crop_size=crop, image_grid_pinpoints=pinpoints
        )
        processor = LlavaNextProcessor(images, tokenizer, **shared, **extra)
    return VisionLanguageModel(model.eval(), Processor(processor, Family(config)), f"tiny {family}")


@pytest.fixture(params=["llava", "llava_next"])
def vlm(request: pytest.FixtureRequest) -> VisionLanguageModel:
    """A tiny model of each family."""
    return tiny_vlm(request.param)


@pytest.fixture
def llava() -> VisionLanguageModel:
    """A tiny LLaVA."""
    return tiny_vlm("llava")


@pytest.fixture
def saved_llava(tmp_path: Path, llava: VisionLanguageModel) -> Path:
    """The folder of a tiny LLaVA."""
    folder = tmp_path / "model"
    llava.model.save_pretrained(folder)
    llava.processor.hf.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def picture() -> Callable[..., Image.Image]:
    """A function from a seed (and a size) to a random picture."""

    def make(seed: int, size: tuple[int, int] = (24, 18)) -> Image.Image:
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3))
        return Image.fromarray(pixels.astype(np.uint8))

    return make


@pytest.fixture(scope="session")
def make_vlm() -> Callable[..., VisionLanguageModel]:
    """`tiny_vlm`, for fixtures that outlive a test."""
    return tiny_vlm
