"""The merged model: what transformers alone loads says what model and adapter say."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from mmpref.errors import InputError
from mmpref.models import VisionLanguageModel
from mmpref.models.adapter import merge_adapter, save_adapter, with_adapter
from mmpref.records.pairs import write_pairs
from mmpref.records.rows import Pair
from mmpref.sampling.merged import compare_merged
from mmpref.study.runs import Training


@pytest.fixture
def adapter(saved_llava: Path, tmp_path: Path) -> Path:
    """An adapter with all its weights drawn, the projector among them."""
    vlm = VisionLanguageModel.load(saved_llava)
    training = Training(lora_rank=4, lora_alpha=8, projector_learning_rate=1e-5)
    adapted = with_adapter(vlm, training, 0)
    torch.manual_seed(1)
    trained = {name: one for name, one in adapted.named_parameters() if one.requires_grad}
    weights = {name: one + 0.05 * torch.randn_like(one) for name, one in trained.items()}
    assert any("projector" in name for name in weights)
    save_adapter(tmp_path / "adapter", vlm, adapted, weights)
    return tmp_path / "adapter"


@pytest.fixture
def pairs(tmp_path: Path, picture: Callable[..., Image.Image]) -> Path:
    def image(seed: int) -> bytes:
        buffer = io.BytesIO()
        picture(seed).save(buffer, "PNG")
        return buffer.getvalue()

    write_pairs(
        tmp_path / "pairs.parquet",
        [
            Pair(f"p{n}", (image(n),), f"What is {n}?", "A cup.", "Two cats.", "test")
            for n in range(10)
        ],
    )
    return tmp_path / "pairs.parquet"


def compared(merged: Path, saved: Path, adapter: Path, pairs: Path, dtype: torch.dtype) -> Any:
    output = merged.with_suffix(".json")
    compare_merged(output, merged, saved, adapter, pairs, dtype)
    return json.loads(output.read_text())


def test_a_merged_model_says_what_model_and_adapter_say(
    saved_llava: Path, adapter: Path, pairs: Path, tmp_path: Path
) -> None:
    merge_adapter(tmp_path / "merged", saved_llava, adapter, torch.float32)
    found = compared(tmp_path / "merged", saved_llava, adapter, pairs, torch.float32)
    assert found["dtype"] == "float32"
    assert found["pairs"] == found["same_answers"] == len(found["answers"]) == 8
    assert found["tokens"] == 8 * (len("A cup.") + len("Two cats.") + 2)
    assert found["answers"][3]["id"] == "p3"
    assert found["answers"][3]["prompt"] == "What is 3?"
    assert all(row["adapter"] == row["merged"] for row in found["answers"])
    assert found["logp_difference"]["max"] < 1e-4
    assert found["adapter_changes_logp_by"]["mean"] > 0.05


def test_a_difference_is_seen(
    saved_llava: Path, adapter: Path, pairs: Path, tmp_path: Path
) -> None:
    # Nothing merged at all: the difference is all that the adapter changes.
    found = compared(saved_llava, saved_llava, adapter, pairs, torch.float32)
    assert found["logp_difference"] == found["adapter_changes_logp_by"]
    assert found["same_answers"] < 8


def test_bfloat16_is_rounded_once_and_recorded(
    saved_llava: Path, adapter: Path, pairs: Path, tmp_path: Path
) -> None:
    merge_adapter(tmp_path / "exact", saved_llava, adapter, torch.float32)
    merge_adapter(tmp_path / "merged", saved_llava, adapter, torch.bfloat16)
    exact = load_file(tmp_path / "exact" / "model.safetensors")
    rounded = load_file(tmp_path / "merged" / "model.safetensors")
    assert exact.keys() == rounded.keys()
    assert all(torch.equal(exact[name].bfloat16(), rounded[name]) for name in exact)
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == "bfloat16"
    found = compared(tmp_path / "merged", saved_llava, adapter, pairs, torch.bfloat16)
    assert found["dtype"] == "bfloat16"
    assert 0 < found["logp_difference"]["mean"] < found["adapter_changes_logp_by"]["mean"]


def test_transformers_alone_loads_it(
    saved_llava: Path, adapter: Path, tmp_path: Path, picture: Callable[..., Image.Image]
) -> None:
    merge_adapter(tmp_path / "merged", saved_llava, adapter, torch.float32)
    auto: Any = AutoModelForImageTextToText
    model, loading = auto.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(loading.values())
    processor = AutoProcessor.from_pretrained(tmp_path / "merged")
    inputs = processor(text="<image>user: what?", images=picture(2), return_tensors="pt")
    base = AutoModelForImageTextToText.from_pretrained(saved_llava)
    with torch.no_grad():
        before = base(**inputs).logits
        beside = peft.PeftModel.from_pretrained(base, str(adapter)).eval()(**inputs).logits
        found = model.eval()(**inputs).logits
    torch.testing.assert_close(found, beside, rtol=1e-4, atol=1e-4)
    assert (found - before).abs().max() > 0.1
    theirs = {path.name for path in saved_llava.iterdir()}
    assert {path.name for path in (tmp_path / "merged").iterdir()} == theirs


def test_an_adapter_of_another_model_is_refused(
    saved_llava: Path, adapter: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no adapter here"):
        merge_adapter(tmp_path / "merged", saved_llava, tmp_path, torch.float32)
    assert not (tmp_path / "merged").exists()
