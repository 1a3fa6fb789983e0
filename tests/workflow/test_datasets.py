"""Public datasets, one of the hub, and rows in other formats, through Snakemake."""

import json
import re
from typing import Any

import pytest
from hub_server import COMMIT, serving
from raw_datasets import LLAMA_FACTORY, formatted, png, written
from safetensors.torch import load_file

from mmpref.models.adapter import load_policy
from mmpref.records.pairs import Pairs

MODEL = "example/tiny-llava"
MODEL_FOLDER = f"resources/models/{MODEL}/{COMMIT}"

HUB = {
    "source": "hub",
    "repository": "example/swift",
    "revision": COMMIT,
    "files": ["*.json", "*.png"],
    "format": "ms-swift",
}


def swift(*answers: str) -> bytes:
    return json.dumps(
        [
            {
                "messages": [
                    {"role": "user", "content": "<image>What?"},
                    {"role": "assistant", "content": answer},
                ],
                "rejected_response": "A dog.",
                "images": ["cup.png"],
            }
            for answer in answers
        ]
    ).encode()


# Of each source: how many pairs, rows in quarantine and rows left out by its rules it gives.
COUNTS = {
    "vlfeedback": (2, 4, 2),  # of two questions, each with three rated answers and one without
    "mdpo": (1, 1, 0),
    "povid": (1, 1, 0),
    "llava_rlhf": (1, 1, 0),
    "hadpo": (2, 1, 1),
    "rlhf_v": (1, 1, 0),
    "rlaif_v": (1, 1, 0),
    "trl": (1, 1, 0),
    "llama-factory": (2, 1, 0),  # one is longer than the model can look back
    "ms-swift": (1, 1, 0),
    "hub": (2, 0, 0),  # a subset of three rows
}
SAMPLERS: dict[str, dict[str, Any]] = {
    "bdhs": {"dataset": "mdpo", "bdhs": {"iterations": 2, "max_new_tokens": 4}},
    "noise": {"dataset": "povid", "bdhs": {"noise_step": 500, "max_new_tokens": 4}},
    "distortion": {"dataset": "rlhf_v", "distortion": {}},
}


@pytest.fixture
def study(checkout, saved_llava, monkeypatch: pytest.MonkeyPatch):
    """Every raw format, with a model and a dataset of the hub; a training of one step for each."""
    (checkout.folder / "raw").mkdir()
    datasets = {
        **written(checkout.folder / "raw"),
        **formatted(checkout.folder / "raw"),
        "hub": HUB | {"subset": 2},
    }
    row = LLAMA_FACTORY | {"rejected": {"from": "gpt", "value": "A dog. " * 400}}
    with (checkout.folder / "raw" / "llama-factory" / "train.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    preferences = {name: {"dataset": name} for name in datasets}
    for name, entry in SAMPLERS.items():
        (sampler,) = set(entry) - {"dataset"}
        settings = {"model": "tiny", "encoder": "exact", **entry[sampler]}
        preferences[name] = {"dataset": entry["dataset"], sampler: settings}
    runs = {
        name: {"model": "tiny", "preferences": name, "objective": {"name": "dpo"}}
        for name in preferences
    }
    runs["bdhs"]["objective"] = {"name": "mdpo"}
    training = {"epochs": 1, "batch_size": 1, "micro_batch_size": 1, "warmup_ratio": 0.0}
    checkout.write_study(
        {
            "name": "raw",
            "models": {"tiny": {"source": "hub", "repository": MODEL, "revision": COMMIT}},
            "datasets": datasets,
            "preferences": preferences,
            "training": {**training, "dtype": "float32", "learning_rate": 0.01, "lora_rank": 4},
            "runs": runs,
        }
    )
    with serving() as hub:
        hub.add(MODEL, saved_llava)
        hub.repositories["example/swift"] = {
            "rows.json": swift("A cup.", "A mug.", "A pot."),
            "cup.png": png(),
            "README.md": b"---\nlicense: mit\n---\n",
        }
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(checkout.folder / "home"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield checkout


@pytest.mark.slow
def test_every_raw_format_becomes_an_adapter(study) -> None:
    study.snakemake()
    assert study.planned() == {}
    results = study.folder / "results"
    for name, counts in COUNTS.items():
        about = json.loads((results / "datasets" / name / "dataset.json").read_text())
        skipped = sum(about["skipped"].values())
        assert (about["pairs"], about["quarantined"], skipped) == counts, name
        assert len(Pairs(results / "preferences" / name / "pairs.parquet")) == counts[0], name
        bad = (results / "datasets" / name / "quarantine.jsonl").read_text().splitlines()
        assert len(bad) == counts[1], name
    for name in [*COUNTS, *SAMPLERS]:
        run = results / "runs" / name / "seed0"
        counted = json.loads((run / "run.json").read_text())["pairs"]
        read = len(Pairs(results / "preferences" / name / "pairs.parquet"))
        assert counted == {"read": read, "kept_out": int(name == "llama-factory")}
        steps = (run / "metrics.jsonl").read_text().splitlines()
        assert len(steps) == read - counted["kept_out"]
        weights = load_file(run / "adapter" / "adapter_model.safetensors")
        # What LoRA adds begins as nothing.
        assert all(tensor.any() for key, tensor in weights.items() if "lora_B" in key), name
        load_policy(study.folder / MODEL_FOLDER, run / "adapter")
    (long,) = (results / "runs/llama-factory/seed0/kept_out.jsonl").read_text().splitlines()
    assert json.loads(long)["field"] == "rejected"
    assert json.loads(long)["limit"] == 2048
    for name, entry in SAMPLERS.items():
        (own,) = Pairs(results / "preferences" / entry["dataset"] / "pairs.parquet")
        (pair,) = Pairs(results / "preferences" / name / "pairs.parquet")
        assert (pair.id, pair.images, pair.chosen) == (own.id, own.images, own.chosen)
        assert pair.rejected != own.rejected
    about = json.loads((results / "datasets" / "hub" / "dataset.json").read_text())
    assert len(about["subset"]["ids"]) == 2
    assert about["origins"][0]["licence"] == "mit"
    about = json.loads((results / "datasets" / "povid" / "dataset.json").read_text())
    assert about["origins"][0]["licence"] == "CC BY 4.0"


def test_a_source_is_read_again_and_not_downloaded_again(study) -> None:
    targets = {
        name: f"results/preferences/{name}/pairs.parquet" for name in ("hub", "rlhf_v", "mdpo")
    }
    study.snakemake(*targets.values())
    # Another subset reads the dataset again; neither it nor an edit of the reader downloads again.
    study.change_study(lambda study: study["datasets"]["hub"].update(subset=1))
    again = {"dataset": 1, "dataset_preferences": 1}
    assert study.planned(targets["hub"]) == again
    study.change_study(lambda study: study["datasets"]["hub"].update(subset=2))
    study.edit("src/mmpref/datasets/conversations.py", '"\\n\\n".join', '"\\n".join')
    assert study.planned(targets["hub"]) == again
    # Of a source by itself nothing else is read again.
    study.edit("src/mmpref/datasets/conversations.py", '"\\n".join', '"\\n\\n".join')
    study.edit("src/mmpref/datasets/rlhf_v.py", "FURTHER = (", 'FURTHER = ("new", ')
    assert study.planned(targets["rlhf_v"]) == again
    assert study.planned(targets["mdpo"]) == {}


def test_a_folder_that_no_dataset_of_the_study_has_is_explained(study) -> None:
    folder = f"resources/datasets/example/swift/{COMMIT}/00000000"
    printed = study.snakemake("-n", folder, check=False)
    assert f"{folder}: no dataset of the study has these files" in printed
    assert "StopIteration" not in printed


def test_what_is_missing_is_planned_to_be_downloaded(checkout) -> None:
    names = {"povid", "llava_rlhf", "vlfeedback", "mdpo"}

    def add(study: dict) -> None:
        study["datasets"] |= {name: {"source": name} for name in names} | {"hub": HUB}
        study["preferences"] |= {f"of-{name}": {"dataset": name} for name in [*names, "hub"]}

    checkout.change_study(add)
    targets = [f"results/datasets/{name}/pairs.parquet" for name in [*names, "hub"]]
    # Two share the images of COCO, two those of VLFeedback.
    assert checkout.planned(*targets) == {"dataset": 5, "download": 6, "hub_dataset": 1}
    printed = checkout.snakemake("--dry-run", *targets)
    assert set(re.findall(r"resources/benchmarks/([\w-]+)$", printed, re.M)) >= {
        "coco-train2014",
        "vlfeedback-images",
    }
