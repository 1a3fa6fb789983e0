"""What a study takes from elsewhere."""

from pathlib import Path
from typing import Any

import yaml

from mmpref.downloads import load
from mmpref.study.origins import DOWNLOADS, benchmarks_of, datasets_of, models_of
from mmpref.study.study import parse

COMMIT = "0" * 40
STUDY: dict[str, Any] = {
    "name": "x",
    "models": {
        "toy": {"source": "toyworld"},
        "llava": {"source": "hub", "repository": "a/llava", "revision": COMMIT},
        "unused": {"source": "local", "folder": "models/unused"},
        "bunny": {"source": "bunny", "folder": "/mnt/bunny"},
    },
    "datasets": {
        "mine": {"source": "local", "file": "mine.jsonl"},
        "asked": {"source": "local", "file": "asked.jsonl"},
        "unused": {"source": "local", "file": "unused.jsonl"},
    },
    "preferences": {"bdhs": {"dataset": "mine", "bdhs": {"model": "bunny", "encoder": "mpnet"}}},
    "runs": {"base": {"model": "llava"}, "toy": {"model": "toy"}},
    "benchmarks": {
        "asked": {"source": "dataset", "dataset": "asked"},
        "pope": {"source": "public", "benchmark": "pope-coco", "images": "/mnt/coco"},
        "popular": {"source": "public", "benchmark": "pope-coco-popular"},
        "amber": {"source": "public", "benchmark": "amber"},
    },
}


def test_the_datasets_that_are_used() -> None:
    assert datasets_of(parse(STUDY, "x.yaml")) == ["mine", "asked"]


def test_models_and_encoders_but_not_what_is_trained_from_nothing() -> None:
    folders = {name: f"resources/{name}" for name in STUDY["models"]}
    llava, bunny, encoder = models_of(parse(STUDY, "x.yaml"), folders)
    assert (llava.part, llava.name, llava.folder) == ("model", "llava", "resources/llava")
    assert (llava.repository, llava.revision, llava.converted) == ("a/llava", COMMIT, False)
    # What lies in a folder of the user's own need not be what is pinned.
    assert (bunny.repository, bunny.revision, bunny.converted) == (None, None, True)
    assert encoder.part == "encoder"
    assert "all-mpnet-base-v2" in encoder.folder


def test_benchmarks_with_what_is_recorded_of_their_downloads() -> None:
    file = Path(__file__).parents[2] / DOWNLOADS
    found = benchmarks_of(parse(STUDY, "x.yaml"), yaml.safe_load(file.read_text()))
    known = load()
    assert [(one["part"], one["name"]) for one in found] == [
        ("benchmark pope, popular", known["pope"].source),
        ("benchmark pope", known["coco-val2014"].source),
        ("benchmark popular", known["coco-val2014"].source),
        ("benchmark amber", known["amber"].source),
        ("benchmark amber", known["amber-images"].source),
        ("benchmark amber", known["nltk_data"].source),
    ]
    assert found[0]["licence"] == "MIT"
    assert (found[1]["revision"], found[2]["revision"]) == ("a copy of your own", "val2014")
