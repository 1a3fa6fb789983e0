"""A LLaVA of about a million parameters and its processor."""

import torch
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from mmpref.toyworld.scenes import IMAGE_SIZE
from mmpref.toyworld.tokenizer import build_tokenizer

PATCH_SIZE = 12
IMAGE_TOKENS = (IMAGE_SIZE // PATCH_SIZE) ** 2


def build_processor() -> LlavaProcessor:
    """Return the processor: pictures of the world pass unscaled, others are made as large."""
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    tokenizer = build_tokenizer()
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size=side, crop_size=side, image_mean=[0.5] * 3, image_std=[0.25] * 3
        ),
        tokenizer=tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )


def build_model(
    processor: LlavaProcessor,
    seed: int,
    *,
    width: int = 128,
    layers: int = 3,
    vision_width: int = 96,
    vision_layers: int = 4,
) -> LlavaForConditionalGeneration:
    """Return an untrained model (float32, on the CPU) that is the same for the same seed."""
    tokenizer = processor.tokenizer
    special = {
        name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")
    }
    vision = CLIPVisionConfig(
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        hidden_size=vision_width,
        intermediate_size=3 * vision_width,
        num_hidden_layers=vision_layers,
        num_attention_heads=vision_width // 24,
        projection_dim=vision_width,
        hidden_act="gelu",
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=True,
        **special,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=processor.image_token_id,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
    model.generation_config.update(**special)
    return model.eval()
