"""Bunny-v1.0-3B, mDPO's second model, as a LLaVA: the same weights under other names.

Its own code (He et al. 2024, arXiv 2402.11530) reads the last but one of SigLIP's 27 layers; the
checkpoint holds 26, so here it is the last one, before the final norm.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

from mmpref.errors import InputError
from mmpref.files import MANIFEST, replacing
from mmpref.study.models import BUNNY

CONFIG = "config.json"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

TOWER = "siglip-so400m-patch14-384"
TOWER_LAYERS = 26
TOWER_HEADS = 16
IMAGE_SIZE = 384
PATCH_SIZE = 14
IMAGE_TOKEN = "<image>"

TEXT_KEYS = (
    "bos_token_id",
    "embd_pdrop",
    "eos_token_id",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    # Without it transformers takes 0.5, and the model talks nonsense.
    "partial_rotary_factor",
    "qk_layernorm",
    "resid_pdrop",
    "rope_theta",
    "vocab_size",
)
"""What Phi's configuration takes over from the checkpoint's."""

RENAMES = {
    "lm_head.": "lm_head.",
    "model.embed_tokens.": "model.language_model.embed_tokens.",
    "model.final_layernorm.": "model.language_model.final_layernorm.",
    "model.layers.": "model.language_model.layers.",
    "model.mm_projector.0.": "model.multi_modal_projector.linear_1.",
    "model.mm_projector.2.": "model.multi_modal_projector.linear_2.",
    "model.vision_tower.vision_tower.vision_model.": "model.vision_tower.",
}
"""Beginnings of names in the checkpoint, and in a LLaVA."""

# No token begins a text; an answer begins right after the colon, as in mDPO.
CHAT_TEMPLATE = (
    "{{ 'A chat between a curious user and an artificial intelligence assistant. The assistant "
    "gives helpful, detailed, and polite answers to the user\\'s questions. ' }}"
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ 'USER: ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{{ '<image>\n' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endif %}"
    "{{ ' ' }}{% else %}{{ 'ASSISTANT: ' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "{{ '<|endoftext|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def convert(checkpoint: str | Path, folder: str | Path) -> None:
    """Write the LLaVA model folder of Bunny's checkpoint, in the precision it is stored in.

    The image token has the first id beyond the vocabulary and no row of its own in embeddings and
    head: features take its place before anything is looked up, and a logit of 0 for it would
    change the probabilities of all other tokens. For prompts with an image `generate` of
    transformers therefore needs `inputs_embeds`.

    Raises:
        InputError: a file is missing, or the checkpoint is another one than Bunny-v1.0-3B.
    """
    checkpoint = Path(checkpoint)
    found = _read_json(checkpoint / CONFIG)
    files = _weight_files(checkpoint)
    shapes = _shapes(checkpoint, files)
    config = _config(checkpoint / CONFIG, found, shapes)
    names = _new_names(checkpoint, shapes, config)
    processor = _processor(checkpoint, config)
    with replacing(folder) as target:
        target.mkdir()
        index: dict[str, str] = {}
        for file in files:
            with safe_open(checkpoint / file, "pt") as weights:
                tensors = {names[key]: weights.get_tensor(key) for key in weights.keys()}  # noqa: SIM118
            index |= dict.fromkeys(tensors, file)
            save_file(tensors, target / file, {"format": "pt"})
            # safetensors lets only the owner read.
            (target / file).chmod(0o644)
        if files != [SINGLE]:
            text = json.dumps({"metadata": {}, "weight_map": index}, indent=1)
            (target / INDEX).write_text(text + "\n", encoding="utf-8")
        config.save_pretrained(target)
        end = found["eos_token_id"]
        generation = transformers.GenerationConfig(eos_token_id=end, pad_token_id=end)
        generation.save_pretrained(target)
        processor.save_pretrained(target)
        if (checkpoint / MANIFEST).is_file():
            # Where the weights come from, and their licence.
            shutil.copyfile(checkpoint / MANIFEST, target / MANIFEST)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error}); fetch the checkpoint again") from None


def _weight_files(checkpoint: Path) -> list[str]:
    if not (checkpoint / INDEX).is_file():
        return [SINGLE]
    return sorted(set(_read_json(checkpoint / INDEX)["weight_map"].values()))


def _shapes(checkpoint: Path, files: list[str]) -> dict[str, list[int]]:
    """Return the shape of every tensor; only the heads of the files are read."""
    shapes: dict[str, list[int]] = {}
    for file in files:
        try:
            with safe_open(checkpoint / file, "pt") as weights:
                here = {key: weights.get_slice(key).get_shape() for key in weights.keys()}  # noqa: SIM118
        except Exception as error:  # safetensors raises its own, and OSError
            raise InputError(
                f"{checkpoint / file}: cannot be read ({error}); fetch the checkpoint again"
            ) from None
        if twice := sorted(shapes.keys() & here.keys()):
            raise InputError(f"{checkpoint / file}: {', '.join(twice)} is in another file too")
        shapes |= here
    return shapes


def _config(
    file: Path, found: dict[str, Any], shapes: dict[str, list[int]]
) -> transformers.LlavaConfig:
    expected = {"model_type": BUNNY, "mm_projector_type": "mlp2x_gelu"}
    for key, value in expected.items():
        if found.get(key) != value:
            raise InputError(
                f"{file}: {key} is {found.get(key)!r}, Bunny-v1.0-3B has {value!r}; only that "
                "model can be converted"
            )
    if not str(found.get("mm_vision_tower")).endswith(TOWER):
        raise InputError(
            f"{file}: mm_vision_tower is {found.get('mm_vision_tower')!r}, Bunny-v1.0-3B has "
            f"{TOWER}; only that model can be converted"
        )
    needed = [*TEXT_KEYS, "mm_hidden_size"]
    if missing := [key for key in needed if key not in found]:
        raise InputError(f"{file}: {', '.join(missing)} is missing; fetch the checkpoint again")
    first = "model.vision_tower.vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight"
    if first not in shapes:
        raise InputError(f"{file.parent}: the tensor {first} is missing; it holds no vision tower")
    text: dict[str, Any] = {key: found[key] for key in TEXT_KEYS}
    vision: Any = transformers.SiglipVisionConfig(
        hidden_size=found["mm_hidden_size"],
        intermediate_size=shapes[first][0],
        num_hidden_layers=TOWER_LAYERS,
        num_attention_heads=TOWER_HEADS,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
    )
    vision.vision_use_head = False
    named: dict[str, Any] = {"dtype": found.get("torch_dtype") or found.get("dtype")}
    return transformers.LlavaConfig(
        text_config=transformers.PhiConfig(
            **text, pad_token_id=text["eos_token_id"], tie_word_embeddings=False
        ),
        vision_config=vision,
        image_token_index=found["vocab_size"],
        image_seq_length=(IMAGE_SIZE // PATCH_SIZE) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        projector_hidden_act="gelu",
        tie_word_embeddings=False,
        architectures=["LlavaForConditionalGeneration"],
        **named,
    )


def _new_names(
    checkpoint: Path, shapes: dict[str, list[int]], config: transformers.LlavaConfig
) -> dict[str, str]:
    """Return the new name of every tensor.

    Raises InputError when the tensors are not exactly those of the model.
    """
    with torch.device("meta"):
        model = transformers.LlavaForConditionalGeneration(config)
    wanted = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    names = {key: _renamed(key, RENAMES) for key in shapes}
    old = {new: old for old, new in RENAMES.items()}
    problems = [
        *(f"{key} is unknown" for key, name in names.items() if name not in wanted),
        *(f"{_renamed(name, old)} is missing" for name in wanted if name not in names.values()),
        *(
            f"{key} has the shape {shapes[key]}, not {wanted[name]}"
            for key, name in names.items()
            if name in wanted and wanted[name] != shapes[key]
        ),
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise InputError(
            f"{checkpoint}: the tensors are not those of Bunny-v1.0-3B: "
            f"{', '.join(problems[:5])}{more}; use the pinned revision"
        )
    return names


def _renamed(name: str, beginnings: dict[str, str]) -> str:
    """Return a name with another beginning; empty when it begins like none."""
    for old, new in beginnings.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return ""


def _processor(checkpoint: Path, config: transformers.LlavaConfig) -> transformers.LlavaProcessor:
    try:
        # Of this class whatever the files say: their own would be code from the repository.
        tokenizer = transformers.CodeGenTokenizer.from_pretrained(checkpoint, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{checkpoint}: the tokenizer cannot be read ({error}); fetch the checkpoint again"
        ) from None
    if len(tokenizer) != config.image_token_id:
        raise InputError(
            f"{checkpoint}: the tokenizer has {len(tokenizer)} tokens, the model "
            f"{config.image_token_id}; use the pinned revision"
        )
    # The texts beside an image keep their spaces, as where they are tokenised each by itself.
    tokenizer.add_tokens(transformers.AddedToken(IMAGE_TOKEN, special=True, normalized=False))
    half, square = [0.5] * 3, {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    images = transformers.LlavaImageProcessorPil(
        do_pad=True, size=square, do_center_crop=False, image_mean=half, image_std=half
    )
    return transformers.LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
    )
