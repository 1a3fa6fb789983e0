"""Public datasets, and one of the hub, through Snakemake."""

import json
import re

import pytest
from hub_server import COMMIT, serving
from raw_datasets import png, written

from mmpref.records.pairs import Pairs

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


def test_every_source_gives_pairs(checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout.folder / "raw").mkdir()
    datasets = {**written(checkout.folder / "raw"), "hub": HUB | {"subset": 2}}
    preferences = {name.replace("_", "-"): {"dataset": name} for name in datasets}

    def add(study: dict) -> None:
        study["datasets"] |= datasets
        study["preferences"] |= preferences

    checkout.change_study(add)
    results = checkout.folder / "results"
    targets = [f"results/preferences/{name}/pairs.parquet" for name in preferences]
    with serving() as hub:
        hub.repositories["example/swift"] = {
            "rows.json": swift("A cup.", "A mug.", "A pot."),
            "cup.png": png(),
            "README.md": b"---\nlicense: mit\n---\n",
        }
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(checkout.folder / "home"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        printed = checkout.snakemake(*targets)
    assert checkout.planned(*targets) == {}
    counts = {
        name: len(Pairs(checkout.folder / target))
        for name, target in zip(preferences, targets, strict=True)
    }
    assert counts == {
        "vlfeedback": 2,
        "mdpo": 1,
        "povid": 1,
        "llava-rlhf": 1,
        "hadpo": 2,
        "rlhf-v": 1,
        "rlaif-v": 1,
        "hub": 2,
    }
    assert "2 pairs kept, 1 rows in quarantine, 1 x two answers with equal ratings" in printed
    about = json.loads((results / "datasets" / "hub" / "dataset.json").read_text())
    assert len(about["subset"]["ids"]) == 2
    assert about["origins"][0]["licence"] == "mit"
    about = json.loads((results / "datasets" / "povid" / "dataset.json").read_text())
    assert about["origins"][0]["licence"] == "CC BY 4.0"

    # Another subset reads the dataset again; neither it nor an edit of the reader downloads again.
    checkout.change_study(lambda study: study["datasets"]["hub"].update(subset=1))
    target = "results/preferences/hub/pairs.parquet"
    again = {"dataset": 1, "dataset_preferences": 1}
    assert checkout.planned(target) == again
    checkout.change_study(lambda study: study["datasets"]["hub"].update(subset=2))
    checkout.edit("src/mmpref/datasets/conversations.py", '"\\n\\n".join', '"\\n".join')
    assert checkout.planned(target) == again
    assert checkout.planned("results/preferences/rlhf-v/pairs.parquet") == {}
    # Of a source by itself nothing else is read again.
    checkout.edit("src/mmpref/datasets/rlhf_v.py", "FURTHER = (", 'FURTHER = ("new", ')
    assert checkout.planned("results/preferences/rlhf-v/pairs.parquet") == again
    assert checkout.planned("results/preferences/mdpo/pairs.parquet") == {}


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
