"""Tiny random checkpoints, as in `family_models.py`: Idefics3, SmolVLM, InternVL3, Gemma 3."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from family_models import QWEN_TURNS, TEXT, qwen_tokenizer, save_model, write
from tokenizers import pre_tokenizers
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GemmaTokenizer,
    GPT2Tokenizer,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}

# --- Idefics3 and SmolVLM ---

SMOLVLM_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<global-img>"),
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    *("<fake_token_around_image>", "<image>", "<end_of_utterance>"),
)

SMOLVLM_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{{ ':' if message['content'][0]['type'] == 'image' else ': ' }}"
    "{% for part in message['content'] %}"
    "{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def smolvlm_tokenizer() -> GPT2Tokenizer:
    """Bytes, a few merges (two line breaks are one token) and the real special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: Any = [("Ċ", "Ċ"), ("Ġ", "A"), ("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("Ġ", "c")]
    symbols = [*alphabet, *(first + second for first, second in merges)]
    tokenizer = GPT2Tokenizer(
        vocab={symbol: number for number, symbol in enumerate(symbols)},
        merges=merges,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        model_max_length=1024,
    )
    tokenizer.add_tokens(list(SMOLVLM_SPECIAL), special_tokens=True)
    return tokenizer


def _smolvlm(folder: Path, name: str, kind: Any, config_kind: Any) -> None:
    tokenizer = smolvlm_tokenizer()
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SMOLVLM_SPECIAL}
    ends = {
        "bos_token_id": ids["<|im_start|>"],
        "eos_token_id": ids["<end_of_utterance>"],
        "pad_token_id": ids["<|im_end|>"],
    }
    config: dict[str, Any] = {
        "image_token_id": ids["<image>"],
        "scale_factor": 2,
        "tie_word_embeddings": False,
        "text_config": {
            **TEXT,
            **ends,
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 2048,
            "rope_theta": 100000.0,
        },
        "vision_config": {
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 4,
            "initializer_range": 0.3,
        },
    }
    save_model(folder, kind, config_kind(**config))
    tokenizer.save_pretrained(folder)
    write(
        folder,
        {
            "config.json": {
                "architectures": [f"{name}ForConditionalGeneration"],
                "model_type": name.lower(),
                "torch_dtype": "float32",
                **config,
            },
            "preprocessor_config.json": {
                **HALF,
                "do_convert_rgb": True,
                "do_image_splitting": True,
                "do_normalize": True,
                "do_pad": True,
                "do_rescale": True,
                "do_resize": True,
                "image_processor_type": f"{name}ImageProcessor",
                "max_image_size": {"longest_edge": 16},
                "processor_class": f"{name}Processor",
                "resample": 1,
                "rescale_factor": 1 / 255,
                "size": {"longest_edge": 32},
            },
            "processor_config.json": {"image_seq_len": 4, "processor_class": f"{name}Processor"},
            "chat_template.json": {"chat_template": SMOLVLM_TEMPLATE},
            "generation_config.json": ends,
        },
    )


def idefics3(folder: Path) -> None:
    """SmolVLM-256M-Instruct, whose model is an Idefics3: tiles of 16 pixels, four tokens each."""
    _smolvlm(folder, "Idefics3", Idefics3ForConditionalGeneration, Idefics3Config)


def smolvlm(folder: Path) -> None:
    """SmolVLM2-256M-Video-Instruct."""
    _smolvlm(folder, "SmolVLM", SmolVLMForConditionalGeneration, SmolVLMConfig)
    kind = {"video_processor_type": "SmolVLMVideoProcessor", "processor_class": "SmolVLMProcessor"}
    write(folder, {"video_preprocessor_config.json": kind})


# --- InternVL3 ---

INTERNVL_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
INTERNVL_TEMPLATE = "{% for message in messages %}" + QWEN_TURNS.replace(
    "<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>\n"
)


def internvl(folder: Path) -> None:
    """InternVL3-1B-hf: a Qwen2 behind tiles of 16 pixels, four tokens each, six at most."""
    tokenizer = qwen_tokenizer()
    tokenizer.add_tokens(list(INTERNVL_TOKENS.values()), special_tokens=True)
    ends = {
        "bos_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
    }
    config: dict[str, Any] = {
        "image_token_id": tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        "image_seq_length": 4,
        "downsample_ratio": 0.5,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": True,
        "text_config": {
            **TEXT,
            **ends,
            "model_type": "qwen2",
            "vocab_size": len(tokenizer) + 5,
            "max_position_embeddings": 2048,
            "rope_theta": 1000000.0,
            "sliding_window": None,
            "tie_word_embeddings": True,
        },
        "vision_config": {
            "model_type": "internvl_vision",
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "attention_bias": True,
            "image_size": [16, 16],
            "patch_size": [4, 4],
            "norm_type": "layer_norm",
            "use_absolute_position_embeddings": True,
            "use_mean_pooling": True,
            "initializer_range": 0.3,
        },
    }
    save_model(folder, InternVLForConditionalGeneration, InternVLConfig(**config))
    tokenizer.save_pretrained(folder)
    saved = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    write(
        folder,
        {
            "tokenizer_config.json": {**saved, "extra_special_tokens": INTERNVL_TOKENS},
            "config.json": {
                "architectures": ["InternVLForConditionalGeneration"],
                "model_type": "internvl",
                "torch_dtype": "float32",
                **config,
            },
            "preprocessor_config.json": {
                "crop_to_patches": False,
                "do_convert_rgb": True,
                "do_normalize": True,
                "do_rescale": True,
                "do_resize": True,
                "image_mean": [0.485, 0.456, 0.406],
                "image_std": [0.229, 0.224, 0.225],
                "image_processor_type": "GotOcr2ImageProcessorFast",
                "max_patches": 6,
                "min_patches": 1,
                "processor_class": "InternVLProcessor",
                "resample": 3,
                "rescale_factor": 1 / 255,
                "size": {"height": 16, "width": 16},
            },
            "processor_config.json": {
                "image_seq_length": 4,
                "processor_class": "InternVLProcessor",
            },
            "video_preprocessor_config.json": {
                "video_processor_type": "InternVLVideoProcessor",
                "processor_class": "InternVLProcessor",
            },
            "chat_template.json": {"chat_template": INTERNVL_TEMPLATE},
            "generation_config.json": {**ends, "pad_token_id": ends["bos_token_id"]},
        },
    )


# --- Gemma 3 ---

GEMMA_TOKENS = {
    "image_token": "<image_soft_token>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
}
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) }}"
    "{{ '\n' }}{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}"
    "{% for part in message['content'] %}"
    "{{ '<start_of_image>' if part['type'] == 'image' else part['text'] | trim }}"
    "{% endfor %}{% endif %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def gemma_tokenizer() -> GemmaTokenizer:
    """Characters, a few merges, bytes for what else there is, and the real special tokens."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    symbols = ["▁", *map(chr, range(ord("!"), ord("~") + 1)), "\n", "\n\n"]
    merges: Any = [("\n", "\n"), ("t", "h"), ("th", "e"), ("c", "u"), ("cu", "p")]
    merged = [first + second for first, second in merges[1:]]
    vocabulary = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *symbols, *merged]
    tokenizer = GemmaTokenizer(
        vocab={symbol: number for number, symbol in enumerate(vocabulary)},
        merges=merges,
        extra_special_tokens=GEMMA_TOKENS,
        model_max_length=1024,
    )
    turns = ["<start_of_turn>", "<end_of_turn>"]
    tokenizer.add_tokens([*turns, *GEMMA_TOKENS.values()], special_tokens=True)
    return tokenizer


def _with_projector(config: Gemma3Config) -> Gemma3ForConditionalGeneration:
    """A new model's projector is zero: images would all be alike."""
    model = Gemma3ForConditionalGeneration(config)
    with torch.no_grad():
        model.model.multi_modal_projector.mm_input_projection_weight.normal_()
    return model


def gemma3(folder: Path) -> None:
    """gemma-3-4b-it: 16 tokens an image, two of three layers look back 24 tokens."""
    tokenizer = gemma_tokenizer()
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in GEMMA_TOKENS.values()}
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end_of_turn>")]
    config: dict[str, Any] = {
        "boi_token_index": ids["<start_of_image>"],
        "eoi_token_index": ids["<end_of_image>"],
        "image_token_index": ids["<image_soft_token>"],
        "eos_token_id": ends,
        "mm_tokens_per_image": 16,
        "text_config": {
            **TEXT,
            "model_type": "gemma3_text",
            "num_hidden_layers": 3,
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 24,
            "sliding_window_pattern": 2,
            "vocab_size": len(tokenizer) + 3,
            "max_position_embeddings": 2048,
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 2,
            "vision_use_head": False,
        },
    }
    save_model(folder, _with_projector, Gemma3Config(**config))
    tokenizer.save_pretrained(folder)
    write(
        folder,
        {
            "config.json": {
                "architectures": ["Gemma3ForConditionalGeneration"],
                "model_type": "gemma3",
                "torch_dtype": "float32",
                **config,
            },
            "preprocessor_config.json": {
                **HALF,
                "do_convert_rgb": None,
                "do_normalize": True,
                "do_pan_and_scan": None,
                "do_rescale": True,
                "do_resize": True,
                "image_processor_type": "Gemma3ImageProcessor",
                "image_seq_length": 16,
                "pan_and_scan_max_num_crops": None,
                "pan_and_scan_min_crop_size": None,
                "pan_and_scan_min_ratio_to_activate": None,
                "processor_class": "Gemma3Processor",
                "resample": 2,
                "rescale_factor": 1 / 255,
                "size": {"height": 16, "width": 16},
            },
            "processor_config.json": {
                "image_seq_length": 16,
                "processor_class": "Gemma3Processor",
            },
            "chat_template.json": {"chat_template": GEMMA_TEMPLATE},
            "generation_config.json": {
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": ends,
                "pad_token_id": tokenizer.pad_token_id,
            },
        },
    )


FACTORIES: dict[str, Callable[[Path], None]] = {
    "idefics3": idefics3,
    "smolvlm": smolvlm,
    "internvl": internvl,
    "gemma3": gemma3,
}
