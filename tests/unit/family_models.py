"""Tiny random checkpoints of families of models, in the layout in which the hub has them.

Each function writes one: the real classes of transformers, the names and keys of the real files, a
tokenizer of the same kind with a small vocabulary, and a chat template of the same structure.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, pre_tokenizers
from transformers import (
    LlamaTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
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
    merges: Any = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("Ġ", "c"), ("u", "p"), ("Ġc", "up")]
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


def qwen_generation(ids: dict[str, Any]) -> dict[str, Any]:
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


# --- LLaVA ---

LLAVA_IMAGES = (
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
)
LLAVA_TEXTS = (
    "{% for part in message['content'] if part['type'] == 'text' %}"
    "{{ part['text'] }}SPACE{% endfor %}"
)
VICUNA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: "
    + LLAVA_IMAGES
    + LLAVA_TEXTS.replace("SPACE", " ")
    + "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
MISTRAL_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}[INST] "
    + LLAVA_IMAGES
    + LLAVA_TEXTS.replace("SPACE", "")
    + " [/INST]{% else %} "
    + LLAVA_TEXTS.replace("SPACE", "")
    + "</s>{% endif %}{% endfor %}"
)
CHATML_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    + LLAVA_IMAGES
    + LLAVA_TEXTS.replace("SPACE", "")
    + "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def llama_tokenizer(
    bos: str = "<s>", eos: str = "</s>", pad: str = "<pad>", **options: Any
) -> LlamaTokenizer:
    """Characters, a few merges, and bytes for the rest; a text begins with a space."""
    merges = [("▁", "A"), ("▁", "c"), ("u", "p"), ("▁c", "up"), ("▁", "▁")]
    symbols = [
        *("<unk>", bos, eos),
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *map(chr, range(33, 127)),
        *(first + second for first, second in merges),
    ]
    tokenizer = LlamaTokenizer(
        vocab={symbol: number for number, symbol in enumerate(symbols)},
        merges=merges,
        unk_token="<unk>",
        bos_token=bos,
        eos_token=eos,
        padding_side="left",
        **options,
    )
    image = AddedToken("<image>", special=True, normalized=False)
    tokenizer.add_tokens([image], special_tokens=True)
    tokenizer.add_special_tokens({"pad_token": pad})
    return tokenizer


def llava_folder(
    folder: Path, kind: Any, tokenizer: LlamaTokenizer, text: dict[str, Any], template: str
) -> None:
    """LLaVA-1.5 and 1.6 around a text model, images of 16 pixels or tiles of that size."""
    tiled = kind is LlavaNextForConditionalGeneration
    pinpoints = [[16, 32], [32, 16], [32, 32], [48, 16], [16, 48]]
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = {
        "architectures": [kind.__name__],
        "model_type": "llava_next" if tiled else "llava",
        "ignore_index": -100,
        "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
        "pad_token_id": tokenizer.pad_token_id,
        "projector_hidden_act": "gelu",
        "text_config": {**TEXT, "vocab_size": len(tokenizer) + 5, **text},
        "tie_word_embeddings": False,
        "vision_config": {
            "hidden_size": 16,
            "image_size": 16,
            "initializer_range": 0.3,
            "intermediate_size": 24,
            "model_type": "clip_vision_model",
            "num_attention_heads": 2,
            "num_hidden_layers": 3,
            "patch_size": 4,
            "projection_dim": 16,
        },
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    }
    pixels: dict[str, Any] = {
        **CLIP,
        "crop_size": {"height": 16, "width": 16},
        "size": {"shortest_edge": 16},
        "do_center_crop": True,
        "resample": 3,
        "image_processor_type": "LlavaNextImageProcessor" if tiled else "CLIPImageProcessor",
    }
    if tiled:
        config |= {"image_grid_pinpoints": pinpoints, "use_image_newline_parameter": True}
        pixels |= {"image_grid_pinpoints": pinpoints, "aspect_ratio_setting": "anyres"}
    write(folder, {"config.json": config})
    config_class = LlavaNextConfig if tiled else LlavaConfig
    save_model(folder, kind, config_class.from_pretrained(folder))
    tokenizer.save_pretrained(folder)
    write(
        folder,
        {
            "config.json": config,
            "preprocessor_config.json": pixels,
            "processor_config.json": {
                "image_token": "<image>",
                "num_additional_image_tokens": 1,
                "patch_size": 4,
                "processor_class": "LlavaNextProcessor" if tiled else "LlavaProcessor",
                "vision_feature_select_strategy": "default",
            },
            "chat_template.json": {"chat_template": template},
            "generation_config.json": special,
        },
    )


VICUNA = {"model_type": "llama", "max_position_embeddings": 4096, "num_key_value_heads": 2}


def llava(folder: Path) -> None:
    """llava-1.5-7b-hf."""
    kind = LlavaForConditionalGeneration
    llava_folder(folder, kind, llama_tokenizer(), VICUNA, VICUNA_TEMPLATE)


def llava_next_vicuna(folder: Path) -> None:
    """llava-v1.6-vicuna-7b-hf."""
    kind = LlavaNextForConditionalGeneration
    llava_folder(folder, kind, llama_tokenizer(), VICUNA, VICUNA_TEMPLATE)


def llava_next_mistral(folder: Path) -> None:
    """llava-v1.6-mistral-7b-hf: a space follows each special token."""
    text = {
        "model_type": "mistral",
        "max_position_embeddings": 32768,
        "rope_theta": 1000000.0,
        "sliding_window": None,
    }
    kind = LlavaNextForConditionalGeneration
    llava_folder(folder, kind, llama_tokenizer(legacy=True), text, MISTRAL_TEMPLATE)


def llava_next_34b(folder: Path) -> None:
    """llava-v1.6-34b-hf: Yi in the shape of Llama, ChatML, no token that begins a text."""
    tokenizer = llama_tokenizer("<|startoftext|>", "<|im_end|>", legacy=True, add_bos_token=False)
    tokenizer.add_tokens(["<|im_start|>", "<|endoftext|>"], special_tokens=True)
    text = {
        "model_type": "llama",
        "max_position_embeddings": 4096,
        "rope_theta": 5000000.0,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    llava_folder(folder, LlavaNextForConditionalGeneration, tokenizer, text, CHATML_TEMPLATE)


FACTORIES: dict[str, Callable[[Path], None]] = {
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "llava": llava,
    "llava_next_vicuna": llava_next_vicuna,
    "llava_next_mistral": llava_next_mistral,
    "llava_next_34b": llava_next_34b,
}
"""What `test_families.py` runs on; so does it on those of every other `family_models*.py`."""
