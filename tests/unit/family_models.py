"""Tiny random checkpoints of families of models, in the layout in which the hub has them.

Each function writes one: the real classes of transformers, the names and keys of the real files, a
tokenizer of the same kind with a small vocabulary, and a chat template of the same structure.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}

TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.3,
}
"""What all text models here have in common; two heads of 16, which share keys and values."""


def write(folder: Path, files: dict[str, Any]) -> None:
    """Write JSON files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")


def save_model(folder: Path, kind: Any, config: Any, seed: int = 0) -> None:
    """Write the random weights and config.json of a model of this class."""
    torch.manual_seed(seed)
    model = kind(config)
    # Zeros and ones would hide a bias or a norm that is left out.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)


# --- Qwen ---

QWEN_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"),
    *("<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>"),
    *("<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
)

QWEN_TURNS = (
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN2_5_VL_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}" + QWEN_TURNS
)


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Bytes and a few merges, and the real special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("Ġ", "c"), ("u", "p"), ("Ġc", "up")]
    symbols = [*alphabet, *(first + second for first, second in merges)]
    tokenizer = Qwen2Tokenizer(
        vocab={symbol: number for number, symbol in enumerate(symbols)},
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=1024,
    )
    tokenizer.add_tokens(list(QWEN_SPECIAL), special_tokens=True)
    return tokenizer


def qwen_generation(ids: dict[str, int]) -> dict[str, Any]:
    """What generation_config.json says."""
    return {
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
        "pad_token_id": ids["<|endoftext|>"],
    }


def qwen2_5_vl(folder: Path) -> None:
    """Qwen2.5-VL-7B-Instruct: one flat configuration, windows in the vision tower."""
    tokenizer = qwen_tokenizer()
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in QWEN_SPECIAL}
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "tokens_per_second": 2,
        "window_size": 16,
        "fullatt_block_indexes": [1],
        "initializer_range": 0.3,
    }
    flat = {
        **TEXT,
        # As in the real one, there are more rows than tokens.
        "vocab_size": len(tokenizer) + 7,
        "max_position_embeddings": 2048,
        "rope_theta": 1000000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "use_sliding_window": False,
        "sliding_window": 32768,
        "max_window_layers": 2,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
    }
    tokens = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }
    config = {"vision_config": vision, "tie_word_embeddings": False, **flat, **tokens}
    save_model(folder, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLConfig(**config))
    tokenizer.save_pretrained(folder)
    write(
        folder,
        {
            "config.json": {
                "architectures": ["Qwen2_5_VLForConditionalGeneration"],
                "model_type": "qwen2_5_vl",
                "torch_dtype": "float32",
                **config,
            },
            "preprocessor_config.json": {
                **CLIP,
                "min_pixels": 256,
                "max_pixels": 1024,
                "patch_size": 4,
                "temporal_patch_size": 2,
                "merge_size": 2,
                "image_processor_type": "Qwen2VLImageProcessor",
                "processor_class": "Qwen2_5_VLProcessor",
            },
            "chat_template.json": {"chat_template": QWEN2_5_VL_TEMPLATE},
            "generation_config.json": qwen_generation(ids),
        },
    )


def qwen3_vl(folder: Path) -> None:
    """Qwen3-VL-2B-Instruct: features of earlier layers of its tower go into the decoder's first."""
    tokenizer = qwen_tokenizer()
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in QWEN_SPECIAL}
    config = {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": True,
        "text_config": {
            **TEXT,
            "model_type": "qwen3_vl_text",
            "num_hidden_layers": 3,
            "head_dim": 16,
            "vocab_size": len(tokenizer) + 7,
            "max_position_embeddings": 2048,
            "rope_theta": 5000000,
            "rope_scaling": {
                "mrope_interleaved": True,
                "mrope_section": [4, 2, 2],
                "rope_type": "default",
            },
            "tie_word_embeddings": True,
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
        },
        "vision_config": {
            "model_type": "qwen3_vl",
            "deepstack_visual_indexes": [0, 2],
            "depth": 4,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_heads": 2,
            "num_position_embeddings": 16,
            "out_hidden_size": 32,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "initializer_range": 0.3,
        },
    }
    write(folder, {"config.json": config})
    save_model(folder, Qwen3VLForConditionalGeneration, Qwen3VLConfig.from_pretrained(folder))
    tokenizer.save_pretrained(folder)
    pixels = {
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "size": {"longest_edge": 1024, "shortest_edge": 256},
        "patch_size": 4,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "processor_class": "Qwen3VLProcessor",
    }
    write(
        folder,
        {
            "config.json": config,
            "preprocessor_config.json": {
                **pixels,
                "image_processor_type": "Qwen2VLImageProcessorFast",
            },
            "video_preprocessor_config.json": {
                **pixels,
                "video_processor_type": "Qwen3VLVideoProcessor",
            },
            "chat_template.json": {
                "chat_template": "{% for message in messages %}" + QWEN_TURNS,
            },
            "generation_config.json": qwen_generation(ids),
        },
    )


FACTORIES: dict[str, Callable[[Path], None]] = {
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
}
"""What `test_families.py` runs on; so does it on those of every other `family_models*.py`."""
