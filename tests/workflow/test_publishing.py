"""What is made only when it is asked for: the merged model, the adapter with its card."""

import json
import shutil
from typing import Any

import pyarrow.parquet as pq
from huggingface_hub import DatasetCard, ModelCard

RUN = "results/runs/mdpo/seed0"
PUBLISHED = "results/published/mdpo/seed0"
CARD = "results/preferences/bdhs/README.md"


def test_adapter_and_pairs_to_publish(copy_of_finished, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert copy_of_finished.planned(f"{RUN}/merged", PUBLISHED, CARD) == {
        "merged_model": 1,
        "published_adapter": 1,
        "pairs_card": 1,
    }
    copy_of_finished.snakemake(f"{RUN}/merged", PUBLISHED, CARD)
    folder = copy_of_finished.folder
    found = json.loads((folder / RUN / "merged.json").read_text())
    assert found["same_answers"] == found["pairs"] == 8
    assert found["logp_difference"]["max"] < 1e-4
    assert found["adapter_changes_logp_by"]["mean"] > 0
    text = (folder / PUBLISHED / "README.md").read_text()
    model_data: Any = ModelCard(text).data
    assert {result.dataset_name for result in model_data.eval_results} == {"captions", "yesno"}
    assert "beta: 0.1" in text
    pairs = (folder / CARD).read_text()
    pairs_data: Any = DatasetCard(pairs).data
    assert pairs_data.pretty_name == "bdhs"
    count = len(pq.read_table(folder / "results/preferences/bdhs/pairs.parquet"))
    assert f"{count} preference pairs" in pairs
    for secret in ("secret", str(folder)):
        assert secret not in text + pairs

    # A model that was removed is not made again, nor what was made with it.
    shutil.rmtree(folder / PUBLISHED)
    (folder / CARD).unlink()
    shutil.rmtree(folder / "resources/models/toy")
    once = {"published_adapter": 1, "pairs_card": 1}
    assert copy_of_finished.planned(PUBLISHED, CARD) == once
    copy_of_finished.snakemake(PUBLISHED, CARD)

    # Another way to make the tables is another card, and no training.
    with (folder / "src" / "mmpref" / "reporting" / "tables.py").open("a") as edited:
        edited.write("\n_EDITED = 1\n")
    planned = copy_of_finished.planned(PUBLISHED)
    assert planned == {"tables": 1, "published_adapter": 1}
