"""Cards: what they say, and that the hub's own classes read them."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pandas as pd
import peft
import pytest
import torch
import yaml
from hub_server import COMMIT, serving
from huggingface_hub import DatasetCard, ModelCard
from PIL import Image

from mmpref.errors import InputError
from mmpref.files import sha256
from mmpref.fingerprint import model_identity
from mmpref.models import VisionLanguageModel
from mmpref.models.adapter import save_adapter, with_adapter
from mmpref.records.pairs import write_pairs
from mmpref.records.rows import Pair
from mmpref.reporting.cards import Recipe, pairs_card, write_adapter
from mmpref.reporting.sources import (
    Source,
    data_sources,
    file_source,
    model_source,
    public,
    sources_of,
)
from mmpref.reporting.tables import MAIN_COLUMNS
from mmpref.study.origins import ModelOrigin
from mmpref.study.runs import Training

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
    assert (
        f"| data | openbmb/RLHF-V-Dataset | {COMMIT} | CC BY-NC 4.0 (**non-commercial**) |" in text
    )
    assert f"| model | llava-hf/llava-1.5-7b-hf | {COMMIT} | llama2 |" in text
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


def origin(folder: Path, name: str) -> ModelOrigin:
    return ModelOrigin(part="model", name=name, folder=str(folder))


@pytest.fixture
def trained(tmp_path: Path, saved_llava: Path) -> tuple[Path, str]:
    """The adapter of a tiny model, and what the code that `asked` ends with prints of both."""
    vlm = VisionLanguageModel.load(saved_llava)
    training = Training(lora_rank=2, lora_alpha=4, dtype="float32")
    adapted = with_adapter(vlm, training, seed=0)
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(weights)
    weights = peft.get_peft_model_state_dict(adapted)
    save_adapter(tmp_path / "trained", vlm, adapted, weights)
    output = io.StringIO()
    with redirect_stdout(output):
        exec(ASKED, {"model": adapted})
    return tmp_path / "trained", output.getvalue()


ASKED = """
import torch
with torch.no_grad():
    logits = model.eval()(input_ids=torch.tensor([[5, 6, 7, 8]])).logits
print(round(logits.double().norm().item(), 3))
"""


def code_of(card: str, **folders: Path) -> str:
    """Return the code block of a card, with the reader's own folders put in."""
    code = card.split("```python\n")[1].split("```")[0]
    for name, folder in folders.items():
        place = f"folder/of/{name.replace('_', '/')}"
        assert place in code
        code = code.replace(place, str(folder))
    assert "folder/of/" not in code
    return code


def test_the_code_of_a_card_loads_the_adapter(
    tmp_path: Path, saved_llava: Path, trained: tuple[Path, str]
) -> None:
    adapter, expected = trained
    output = tmp_path / "published"
    write_adapter(output, adapter, RUN, [model_source(origin(saved_llava, "toy"))], RECIPE, "1")
    code = code_of((output / "README.md").read_text(), toy=saved_llava, this_adapter=output)
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(code + ASKED, {})
    assert printed.getvalue() == expected


def test_the_code_of_a_card_fetches_its_model_from_the_hub(
    tmp_path: Path, saved_llava: Path, trained: tuple[Path, str]
) -> None:
    adapter, expected = trained
    output = tmp_path / "published"
    source = Source("model", "example/tiny", COMMIT, "mit")
    write_adapter(output, adapter, RUN, [source], RECIPE, "1")
    code = code_of((output / "README.md").read_text(), this_adapter=output)
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    with serving() as hub:
        hub.add("example/tiny", saved_llava)
        done = subprocess.run(
            [sys.executable, "-c", code + ASKED],
            env=own | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
        )
    assert done.stdout == expected, done.stderr


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
    noisy = Recipe("noisy", {"bdhs": None, "distortion": {"noise_step": 500}})
    assert "under a noisy image" in pairs_card(pairs, [], noisy, "0.1.0")
    pairs.write_bytes(b"no parquet")
    with pytest.raises(InputError, match="cannot be read as a Parquet file"):
        pairs_card(pairs, [], RECIPE, "0.1.0")


def test_what_is_known_of_models_and_datasets(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    found = model_source(origin(model, "mine"))
    assert found == Source("model", "mine", digest=f"mmpref:{model_identity(model)}")
    assert found.repository is None
    manifest = {"repository": "a/b", "revision": COMMIT, "licence": "mit"}
    (model / "manifest.json").write_text(json.dumps(manifest))
    fetched = model_source(origin(model, "mine"))
    assert fetched == Source("model", "a/b", COMMIT, "mit", stated_in="manifest.json")
    removed = origin(tmp_path / "gone", "mine")
    assert model_source(removed) == Source("model", "mine")
    pinned = removed.model_copy(update={"repository": "a/b", "revision": COMMIT})
    assert model_source(pinned) == Source("model", "a/b", COMMIT)

    pairs = tmp_path / "pairs.parquet"
    assert data_sources(pairs, "mine") == [Source("data", "mine")]
    origins = [
        {"source": "a/b", "revision": COMMIT, "licence": "CC BY 4.0"},
        {"source": "/home/alice/images", "revision": None, "licence": None},
    ]
    (tmp_path / "dataset.json").write_text(json.dumps({"origins": origins}))
    assert data_sources(pairs, "mine") == [
        Source("data", "a/b", COMMIT, "CC BY 4.0", stated_in="dataset.json"),
        Source("data", "images", stated_in="dataset.json"),
    ]


@pytest.mark.parametrize(
    ("licence", "forbids"),
    [
        ("cc-by-nc-4.0", True),
        ("CC BY-NC 4.0", True),
        ("code Apache-2.0, data CC BY-NC 4.0", True),
        ("non-commercial research", True),
        ("apache-2.0", False),
        ("NCSA", False),
        (None, False),
    ],
)
def test_a_licence_says_whether_it_is_non_commercial(licence: str | None, forbids: bool) -> None:
    assert Source("data", "x", None, licence).non_commercial == forbids


def test_the_repository_of_a_pinned_download_is_known() -> None:
    name = "RLHF-V, openbmb/RLHF-V-Dataset on the dataset hub"
    assert Source("data", name, COMMIT).repository == "openbmb/RLHF-V-Dataset"
    assert Source("data", "POPE, RUCAIBox/POPE on GitHub", COMMIT).repository is None


def test_places_on_this_machine_stay_private() -> None:
    said = "RLHF-V, openbmb/RLHF-V-Dataset on the dataset hub, in /home/alice/rlhf_v"
    assert public(said) == "RLHF-V, openbmb/RLHF-V-Dataset on the dataset hub, in rlhf_v"
    kept = ["yes / no / both, and/or", "config/published/mdpo.yaml", "https://a.example/b/c"]
    assert public({"file": "/home/alice/my data/a.jsonl", "kept": kept}) == {
        "file": "a.jsonl",
        "kept": kept,
    }


def test_what_went_into_a_study(tmp_path: Path) -> None:
    model = tmp_path / "llava"
    model.mkdir()
    manifest = {"repository": "a/b", "revision": COMMIT, "licence": "mit"}
    (model / "manifest.json").write_text(json.dumps(manifest))
    made = tmp_path / "made"
    made.mkdir()
    package = {"source": "a-package", "revision": "0.1", "licence": "mit"}
    (made / "manifest.json").write_text(json.dumps(package))
    models = [origin(model, "llava"), origin(made, "made"), origin(tmp_path / "gone", "gone")]
    benchmark = {"part": "benchmark pope", "name": "POPE", "revision": "v1", "licence": "MIT",
                 "stated_in": "downloads.yaml"}  # fmt: skip
    about = tmp_path / "datasets" / "mine" / "dataset.json"
    about.parent.mkdir(parents=True)
    origins = [
        {"source": "a/b", "revision": COMMIT, "licence": "CC BY 4.0"},
        {"source": "/home/alice/pairs.jsonl", "revision": None, "licence": None},
    ]
    about.write_text(json.dumps({"origins": origins}))
    said = "datasets/mine/dataset.json"
    assert sources_of(models, [benchmark], [about]) == [
        Source("model", "a/b", COMMIT, "mit", stated_in="manifest.json"),
        Source("model", "a-package", "0.1", "mit", stated_in="manifest.json"),
        Source("model", "gone"),
        Source("benchmark pope", "POPE", "v1", "MIT", stated_in="downloads.yaml"),
        Source("dataset mine", "a/b", COMMIT, "CC BY 4.0", stated_in=said),
        Source("dataset mine", "pairs.jsonl"),
    ]
