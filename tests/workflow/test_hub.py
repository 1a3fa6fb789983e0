"""A model of the hub, from its download to the scores, with a hub on the loopback interface."""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_server import COMMIT, Hub, serving
from safetensors.torch import load, save

NAME = "example/tiny-llava"
TARGET = f"resources/models/{NAME}/{COMMIT}"
WEIGHTS = "model.safetensors"


@pytest.fixture
def hub(saved_llava: Path) -> Iterator[Hub]:
    with serving() as hub:
        hub.add(NAME, saved_llava)
        # So that a download can be killed in the middle: pieces of 10 MB are written.
        hub.repositories[NAME][WEIGHTS] = padded(hub.repositories[NAME][WEIGHTS], 25_000_000)
        yield hub


def padded(weights: bytes, size: int) -> bytes:
    """Return weights in safetensors with a tensor more, which no model has a place for."""
    more = torch.zeros(size, dtype=torch.uint8)
    return save({**load(weights), "padding": more}, {"format": "pt"})


@pytest.fixture
def study(checkout, hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(checkout.folder / "home"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def use_hub(study: dict) -> None:
        study["models"] = {"tiny": {"source": "hub", "repository": NAME, "revision": COMMIT}}
        study["preferences"]["bdhs"]["bdhs"] |= {"model": "tiny", "shards": 1, "max_new_tokens": 4}
        study["benchmarks"] = {"captions": study["benchmarks"]["captions"]}
        study["runs"] = {
            "base": {"model": "tiny"},
            "mdpo": {**study["runs"]["mdpo"], "model": "tiny"},
        }

    checkout.change_study(use_hub)
    return checkout


@pytest.mark.slow
def test_a_download_killed_in_the_middle_and_then_the_whole_study(study, hub: Hub):
    assert study.planned()["hub_model"] == 1
    hub.cut[WEIGHTS] = 12_000_000
    hub.go_on.clear()
    process = subprocess.Popen(
        study.command(TARGET),
        cwd=study.folder,
        env=study.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    part = study.folder / Path(TARGET).parent / f".{COMMIT}.partial" / ".parts" / WEIGHTS
    while not (part.is_file() and part.stat().st_size > 10_000_000):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (study.folder / TARGET).exists()
    hub.go_on.set()
    hub.cut.clear()
    hub.sent.clear()

    study.snakemake("--unlock")
    study.snakemake()
    whole = len(hub.repositories[NAME][WEIGHTS])
    assert hub.sent[WEIGHTS] < whole - 10_000_000
    scores = list((study.folder / "results" / "scores").glob("*/*/captions.json"))
    assert len(scores) == 2
    assert (study.folder / "results/runs/mdpo/seed0/adapter/adapter_model.safetensors").is_file()

    # Another study takes the same download, and the one that is there counts as it is.
    assert study.planned() == Counter()
    study.change_study(lambda study: study.update(results="results/other"))
    planned = study.planned()
    assert planned["train"] == 1
    assert "hub_model" not in planned


def test_a_family_that_the_model_is_not_of(study):
    study.change_study(lambda study: study["models"]["tiny"].update(family="llava_next"))
    folder = study.folder / TARGET
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llava"}')
    printed = study.snakemake("-n", check=False)
    assert "models.tiny.family: is 'llava_next', but the model in" in printed
    assert "of the family 'llava'; correct it" in printed


def test_the_papers_sentence_encoder_is_a_download_too(study):
    def use_mpnet(study: dict) -> None:
        study["preferences"]["bdhs"]["bdhs"]["encoder"] = "mpnet"

    study.change_study(use_mpnet)
    assert study.planned()["hub_model"] == 2
