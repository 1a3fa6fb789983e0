"""The adapter: made to be trained, saved, and loaded with its model."""

import json
import shutil
from pathlib import Path

import peft
import torch
from torch import Tensor, nn

from mmpref.errors import InputError
from mmpref.files import MANIFEST, replacing
from mmpref.models.vlm import VisionLanguageModel
from mmpref.randomness import seed_of
from mmpref.study.runs import Training

BESIDE_WEIGHTS = {".json", ".jinja", ".model", ".txt"}
OF_THE_DOWNLOAD = {"model.safetensors.index.json", MANIFEST}


def with_adapter(vlm: VisionLanguageModel, training: Training, seed: int) -> peft.PeftModel:
    """Return the model with LoRA on the linear layers of its language model.

    With a `projector_learning_rate` the projector is trained as a whole and belongs to the adapter;
    all else is frozen. The start depends on `seed` alone.

    Raises:
        InputError: projector training was requested, but the model has no separate projector.
    """
    projectors = vlm.family.projectors(vlm.model) if training.projector_learning_rate else []
    if training.projector_learning_rate and not projectors:
        raise InputError(
            f"{vlm.name}: projector training was requested, but the model has no separate "
            "projector; leave out training.projector_learning_rate"
        )
    # The model's own dropout would make the policy differ from the reference at the start.
    for module in vlm.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    config = peft.LoraConfig(
        r=training.lora_rank,
        lora_alpha=training.lora_alpha,
        lora_dropout=training.lora_dropout,
        target_modules=vlm.family.lora_targets(vlm.model),
        modules_to_save=projectors or None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "adapter"))
        # In the model's own type: ZeRO-3 wants one type for all, and keeps float32 copies itself.
        adapted = peft.get_peft_model(vlm.model, config, autocast_adapter_dtype=False)
    if training.gradient_checkpointing:
        vlm.model.get_decoder().gradient_checkpointing_enable({"use_reentrant": False})
    return adapted


def save_adapter(
    folder: Path, vlm: VisionLanguageModel, adapted: peft.PeftModel, weights: dict[str, Tensor]
) -> None:
    """Write the adapter with these weights (by PEFT's names) in PEFT's format."""
    with replacing(folder) as temporary:
        adapted.save_pretrained(str(temporary), state_dict=weights, save_embedding_layers=False)
        # safetensors lets only the owner read.
        (temporary / "adapter_model.safetensors").chmod(0o644)
        # PEFT's model card is an empty form, its target modules are in no order.
        (temporary / "README.md").unlink(missing_ok=True)
        config = temporary / "adapter_config.json"
        settings = json.loads(config.read_text(encoding="utf-8"))
        settings["target_modules"].sort()
        settings["base_model_name_or_path"] = vlm.name
        config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_policy(
    model: str | Path,
    adapter: str | Path | None,
    dtype: torch.dtype = torch.float32,
    device: str | None = None,
) -> VisionLanguageModel:
    """Return a model folder's model with an adapter, or (None) as it is, ready to generate.

    In float32 the adapter is merged into the weights; bfloat16 would round most of a small change
    away, so there it stays beside them.

    Raises:
        InputError: model or adapter is missing, or they do not belong together.
    """
    vlm = VisionLanguageModel.load(model, dtype, device)
    if adapter is None:
        return vlm
    adapted = with_saved_adapter(vlm, adapter)
    if dtype == torch.float32:
        vlm.model = adapted.merge_and_unload()
    return vlm


def with_saved_adapter(vlm: VisionLanguageModel, adapter: str | Path) -> peft.PeftModel:
    """Put an adapter beside the weights of a model, ready to generate.

    Raises:
        InputError: the adapter is missing, or does not belong to the model.
    """
    if not (Path(adapter) / "adapter_config.json").is_file():
        raise InputError(f"{adapter}: no adapter here (adapter_config.json is missing)")
    dtype = vlm.model.dtype
    try:
        adapted = peft.PeftModel.from_pretrained(vlm.model, str(adapter))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{adapter}: does not fit the model {vlm.name}: {error}") from error
    # PEFT puts each part of the adapter where the layer lies that it belongs to.
    vlm.model.to(dtype=dtype).eval()
    return adapted


def merge_adapter(
    folder: str | Path, model: str | Path, adapter: str | Path, dtype: torch.dtype
) -> None:
    """Write the model folder of a model with its adapter merged, in this precision.

    The sum is made in float32 and rounded once. All but the weights is the model's own.

    Raises:
        InputError: model or adapter is missing, or they do not belong together.
    """
    merged = load_policy(model, adapter, torch.float32, "cpu").model.to(dtype)
    with replacing(folder) as temporary:
        merged.save_pretrained(temporary)
        for file in temporary.glob("*.safetensors"):
            # safetensors lets only the owner read.
            file.chmod(0o644)
        for file in Path(model).iterdir():
            own = file.suffix in BESIDE_WEIGHTS and file.name not in OF_THE_DOWNLOAD
            if own and not (temporary / file.name).exists():
                shutil.copyfile(file, temporary / file.name)
