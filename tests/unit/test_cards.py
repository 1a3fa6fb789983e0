"""Cards: what they say, and that the hub's own classes read them."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard
from PIL import Image

from mmpref.errors import InputError
from mmpref.files import sha256
from mmpref.fingerprint import model_identity
from mmpref.records.pairs import write_pairs
from mmpref.records.rows import Pair
from mmpref.reporting.cards import (
    Recipe,
    Source,
    data_sources,
    file_source,
    model_source,
    pairs_card,
    write_adapter,
)
from mmpref.reporting.tables import MAIN_COLUMNS

COMMIT = "0123456789abcdef0123456789abcdef01234567"
RUN = {
    "name": "mdpo",
    "seed": 2,
    "run": {
        "model": "llava",
        "preferences": "bdhs",
        "objective": {"name": "mdpo", "beta": 0.1},
        "training": {"learning_rate": 1e-5, "lora_rank": 64},
        "seeds": [0],
    },
    "fingerprint": "abc",
}
RECIPE = Recipe(
    "bdhs",
    {
        "seed": 7,
        "dataset": {"source": "local", "file": "/home/alice/private/povid.jsonl"},
        "bdhs": {"mask_ratio": 0.99, "encoder": "/home/alice/mpnet"},
    },
)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    config = {"base_model_name_or_path": "/scratch/alice/models/llava", "r": 64, "revision": None}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def table() -> pd.DataFrame:
    rows: list[tuple[Any, ...]] = [
        ("base", "pope", "F1", 0.8, 0.75, 0.85, 1, 100, False),
        ("mdpo", "pope", "F1", 0.9, 0.85, 0.95, 3, 100, True),
        ("mdpo", "pope", "gap|x", float("nan"), float("nan"), float("nan"), 3, 100, False),
        ("dpo", "pope", "F1", 0.7, 0.6, 0.8, 3, 100, False),
    ]
    return pd.DataFrame(rows, columns=MAIN_COLUMNS)


HUB_MODEL = Source("model", "llava-hf/llava-1.5-7b-hf", COMMIT, "llama2")
HUB_DATA = Source("data", "openbmb/RLHF-V-Dataset", COMMIT, "CC BY-NC 4.0")


def test_the_model_card(tmp_path: Path, adapter: Path, table: pd.DataFrame) -> None:
    output = tmp_path / "published"
    write_adapter(output, adapter, RUN, [HUB_MODEL, HUB_DATA], RECIPE, "0.1.0", table, "base")
    text = (output / "README.md").read_text()
    data: Any = ModelCard(text).data
    assert data.base_model == "llava-hf/llava-1.5-7b-hf"
    assert data.datasets == ["openbmb/RLHF-V-Dataset"]
    assert data.library_name == "peft"
    assert data.pipeline_tag == "image-text-to-text"
    assert data.license == "other"
    (result,) = data.eval_results
    assert (result.dataset_type, result.metric_type, result.metric_value) == ("pope", "F1", 0.9)
    assert "| pope | F1 | 0.90 [0.85, 0.95] | 0.80 [0.75, 0.85] | 100 |" in text
    assert "Mean over 3 training seeds" in text
    assert r"| pope | gap\|x | – |" in text
    assert "0.70" not in text
    assert f"| data | openbmb/RLHF-V-Dataset | {COMMIT} | CC BY-NC 4.0 |" in text
    weights = sha256(adapter / "adapter_model.safetensors")
    assert f"| this adapter | adapter_model.safetensors |  |  | sha256:{weights} |" in text
    assert "mmpref 0.1.0" in text
    recipe = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert recipe["objective"] == {"name": "mdpo", "beta": 0.1}
    assert recipe["training"] == {"learning_rate": 1e-5, "lora_rank": 64}
    assert recipe["seed"] == 2
    made = yaml.safe_load(text.split("```yaml\n")[2].split("```")[0])
    assert made["bdhs"] == {"mask_ratio": 0.99, "encoder": "mpnet"}
    assert made["dataset"]["file"] == "povid.jsonl"
    config = json.loads((output / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "llava-hf/llava-1.5-7b-hf"
    assert config["revision"] == COMMIT
    assert (output / "adapter_model.safetensors").read_bytes() == b"weights"
    assert "alice" not in text + json.dumps(config)


def test_a_local_model_and_no_scores(tmp_path: Path, adapter: Path) -> None:
    output = tmp_path / "published"
    write_adapter(output, adapter, RUN, [Source("model", "toy", digest="mmpref:1")], RECIPE, "1")
    text = (output / "README.md").read_text()
    data: Any = ModelCard(text).data
    assert data.base_model is None
    assert data.eval_results is None
    assert "## Scores" not in text
    assert 'name = "folder/of/toy"' in text
    assert json.loads((output / "adapter_config.json").read_text())["revision"] is None


def test_a_converted_model_is_not_loaded_from_its_repository(tmp_path: Path, adapter: Path) -> None:
    bunny = Source("model", "BAAI/Bunny-v1_0-3B", COMMIT, "apache-2.0", converted=True)
    write_adapter(tmp_path / "published", adapter, RUN, [bunny], RECIPE, "1")
    text = (tmp_path / "published" / "README.md").read_text()
    data: Any = ModelCard(text).data
    assert data.base_model == "BAAI/Bunny-v1_0-3B"
    assert 'name = "folder/of/Bunny-v1_0-3B"' in text
    assert "first converted" in text


def test_a_folder_without_adapter(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no adapter here"):
        write_adapter(tmp_path / "published", tmp_path, RUN, [HUB_MODEL], RECIPE, "1")
    assert not (tmp_path / "published").exists()


def test_the_dataset_card(tmp_path: Path, picture: Callable[..., Image.Image]) -> None:
    buffer = io.BytesIO()
    picture(1).save(buffer, "PNG")
    image = (buffer.getvalue(),)
    pairs = tmp_path / "pairs.parquet"
    sources = enumerate(["povid"] * 3 + ["rlhf-v"] * 2)
    write_pairs(pairs, (Pair(str(n), image, "What?", "A.", "B.", one) for n, one in sources))
    text = pairs_card(pairs, [HUB_DATA, file_source("pairs", pairs)], RECIPE, "0.1.0")
    data: Any = DatasetCard(text).data
    assert data.size_categories == ["n<1K"]
    assert data.source_datasets == ["openbmb/RLHF-V-Dataset"]
    assert data.configs == [{"config_name": "default", "data_files": "pairs.parquet"}]
    assert "5 preference pairs" in text
    assert "- povid: 3\n- rlhf-v: 2" in text
    assert "sampled by BDHS" in text
    assert f"sha256:{sha256(pairs)}" in text
    assert "alice" not in text
    pairs.write_bytes(b"no parquet")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        pairs_card(pairs, [], RECIPE, "0.1.0")


def test_what_is_known_of_models_and_datasets(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    found = model_source("model", model, "mine")
    assert found == Source("model", "mine", digest=f"mmpref:{model_identity(model)}")
    assert found.repository is None
    manifest = {"repository": "a/b", "revision": COMMIT, "licence": "mit"}
    (model / "manifest.json").write_text(json.dumps(manifest))
    assert model_source("sampler", model, "mine") == Source("sampler", "a/b", COMMIT, "mit")

    pairs = tmp_path / "pairs.parquet"
    assert data_sources(pairs, "mine") == [Source("data", "mine")]
    origins = [
        {"source": "a/b", "revision": COMMIT, "licence": "CC BY 4.0"},
        {"source": "/home/alice/images", "revision": None, "licence": None},
    ]
    (tmp_path / "dataset.json").write_text(json.dumps({"origins": origins}))
    assert data_sources(pairs, "mine") == [
        Source("data", "a/b", COMMIT, "CC BY 4.0"),
        Source("data", "images"),
    ]
