import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import COMMIT, Hub, serving
from pydantic import ValidationError

from mmpref.study.models import HubModel

ROOT = Path(__file__).parents[2]
NAME = "example/tiny-llava"
WEIGHTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        hub.repositories[NAME] = {
            "config.json": json.dumps({"model_type": "llava"}).encode(),
            "generation_config.json": b"{}",
            "tokenizer.json": b"{}",
            "tokenizer.model": b"\x00sentencepiece",
            "processor_config.json": b"{}",
            "chat_template.jinja": b"{{ messages }}",
            "README.md": b"---\nlicense: apache-2.0\n---\n# A model\n",
            "model.safetensors.index.json": json.dumps(
                {"weight_map": {"a": WEIGHTS[0], "b": WEIGHTS[1]}}
            ).encode(),
            WEIGHTS[0]: os.urandom(300_000),
            WEIGHTS[1]: os.urandom(200_000),
            # None of these is wanted: pickles, code, a second copy of the weights.
            "pytorch_model.bin": b"pickle",
            "modeling_tiny.py": b"raise SystemExit",
            "consolidated.safetensors": b"again",
            "onnx/model.onnx": b"other",
            "training_args.bin": b"pickle",
        }
        yield hub


WANTED = {
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "processor_config.json",
    "chat_template.jinja",
    "README.md",
    "model.safetensors.index.json",
    *WEIGHTS,
}


def fetch(hub: Hub, *args: Any, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    process = start(hub, *args, **kwargs)
    output, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def start(
    hub: Hub, target: Path, name: str = NAME, revision: str = COMMIT, **environment: str
) -> subprocess.Popen[str]:
    """Start the rule's script, a process of its own: huggingface_hub reads its variables once."""
    home = target.parent / "home"
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "scripts" / "hub_model.py"), "--repository", name),
            *("--revision", revision, "--output", str(target)),
        ],
        env=own | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def failed(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert "hf_" not in done.stdout + done.stderr


def test_a_model_is_fetched_with_what_belongs_to_it_alone(tmp_path: Path, hub: Hub) -> None:
    target = tmp_path / "models" / "tiny"
    target.parent.mkdir()
    done = fetch(hub, target)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in target.iterdir()} == {*WANTED, "manifest.json"}
    for name in WANTED:
        assert (target / name).read_bytes() == hub.repositories[NAME][name]
    manifest = json.loads((target / "manifest.json").read_text())
    assert manifest["repository"] == NAME
    assert manifest["revision"] == COMMIT
    assert manifest["licence"] == "apache-2.0"
    assert manifest["bytes"] == sum(len(hub.repositories[NAME][name]) for name in WANTED)
    assert [path.name for path in target.parent.iterdir()] == ["tiny"]


def test_a_killed_download_goes_on_where_it_stopped(tmp_path: Path, hub: Hub) -> None:
    target = tmp_path / "tiny"
    content = os.urandom(25_000_000)
    hub.repositories[NAME][WEIGHTS[1]] = content
    hub.cut[WEIGHTS[1]] = 12_000_000
    hub.go_on.clear()
    process = start(hub, target)
    part = tmp_path / ".tiny.partial" / ".parts" / WEIGHTS[1]
    # huggingface_hub writes pieces of 10 MB.
    while not (part.is_file() and part.stat().st_size > 10_000_000):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    hub.go_on.set()
    assert not target.exists()
    assert hub.sent == {
        **{name: len(hub.repositories[NAME][name]) for name in hub.sent},
        WEIGHTS[1]: 12_000_000,
    }
    hub.sent.clear()
    hub.cut[WEIGHTS[1]] = 13_000_000  # once more, while it runs
    done = fetch(hub, target)
    assert done.returncode == 0, done.stderr
    assert set(hub.sent) == {WEIGHTS[1]}
    assert hub.sent[WEIGHTS[1]] < 20_000_000
    assert (target / WEIGHTS[1]).read_bytes() == content


def test_a_download_that_fails_keeps_what_it_has(tmp_path: Path, hub: Hub) -> None:
    hub.cut[WEIGHTS[1]] = 0
    failed(fetch(hub, tmp_path / "tiny"), WEIGHTS[1], "what was fetched is kept")
    hub.cut.clear()
    hub.sent.clear()
    assert fetch(hub, tmp_path / "tiny").returncode == 0
    assert set(hub.sent) == {WEIGHTS[1]}


def test_other_bytes_than_the_hub_states_are_not_taken(tmp_path: Path, hub: Hub) -> None:
    hub.damaged[WEIGHTS[0]] = bytes(300_000)
    failed(fetch(hub, tmp_path / "tiny"), WEIGHTS[0], "does not have the sum")
    assert not (tmp_path / "tiny").exists()
    hub.damaged.clear()
    assert fetch(hub, tmp_path / "tiny").returncode == 0
    assert (tmp_path / "tiny" / WEIGHTS[0]).read_bytes() == hub.repositories[NAME][WEIGHTS[0]]


def test_what_lies_in_the_cache_is_linked_and_checked(tmp_path: Path, hub: Hub) -> None:
    code = f"import huggingface_hub as h; h.snapshot_download({NAME!r}, revision={COMMIT!r})"
    home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    subprocess.run([sys.executable, "-c", code], env=os.environ | home, check=True, timeout=120)
    sent = dict(hub.sent)
    assert fetch(hub, tmp_path / "tiny").returncode == 0
    assert hub.sent == sent
    weights = tmp_path / "tiny" / WEIGHTS[0]
    assert weights.stat().st_nlink == 2

    # The cache alone is enough, as on a machine without a network.
    offline = fetch(hub, tmp_path / "offline", HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr
    assert "cannot be reached" in offline.stderr
    assert (tmp_path / "offline" / WEIGHTS[0]).samefile(weights)

    data = bytearray(weights.read_bytes())
    data[5] ^= 1
    weights.write_bytes(bytes(data))
    failed(fetch(hub, tmp_path / "third"), WEIGHTS[0], "the hub's cache", "does not have the sum")


def test_a_hub_that_cannot_be_reached(tmp_path: Path, hub: Hub) -> None:
    nobody = fetch(hub, tmp_path / "tiny", HF_ENDPOINT="http://127.0.0.1:9")
    failed(nobody, f"model {NAME}", "HF_ENDPOINT", "source: local")


def test_gated_private_and_missing_repositories_are_explained(tmp_path: Path, hub: Hub) -> None:
    target = tmp_path / "tiny"
    failed(fetch(hub, target, name="example/none"), "does not exist, or is private", "HF_TOKEN")
    failed(fetch(hub, target, revision="f" * 40), "the revision does not exist", "a commit")
    hub.gated.add(NAME)
    failed(fetch(hub, target), "is gated", "accept its terms", "HF_TOKEN")
    hub.private.add(NAME)
    failed(fetch(hub, target), "is private")
    done = fetch(hub, target, HF_TOKEN=hub.token)
    assert done.returncode == 0, done.stderr
    assert hub.token not in done.stderr + done.stdout


def test_pickles_alone_are_refused_before_they_are_fetched(tmp_path: Path, hub: Hub) -> None:
    files = hub.repositories[NAME]
    for name in [*WEIGHTS, "model.safetensors.index.json", "consolidated.safetensors"]:
        del files[name]
    failed(fetch(hub, tmp_path / "tiny"), "no weights in safetensors", "pytorch_model.bin")
    assert "pytorch_model.bin" not in hub.sent


def test_an_index_that_names_absent_files(tmp_path: Path, hub: Hub) -> None:
    del hub.repositories[NAME][WEIGHTS[1]]
    failed(fetch(hub, tmp_path / "tiny"), "index.json names", WEIGHTS[1])


def test_another_family_is_refused_before_its_weights(tmp_path: Path, hub: Hub) -> None:
    hub.repositories[NAME]["config.json"] = json.dumps({"model_type": "bert"}).encode()
    failed(fetch(hub, tmp_path / "tiny"), NAME, "'bert' are not supported", "llava")
    assert set(hub.sent) == {"config.json"}


def test_a_sentence_encoder_comes_with_its_parts(tmp_path: Path, hub: Hub) -> None:
    hub.repositories[NAME] = {
        "config.json": json.dumps({"model_type": "mpnet"}).encode(),
        "modules.json": b"[]",
        "1_Pooling/config.json": b"{}",
        "model.safetensors": b"weights",
        "onnx/model.onnx": b"other",
        "pytorch_model.bin": b"pickle",
    }
    done = fetch(hub, tmp_path / "encoder")
    assert done.returncode == 0, done.stderr
    found = {
        path.relative_to(tmp_path / "encoder").as_posix()
        for path in (tmp_path / "encoder").rglob("*")
    }
    assert found == {
        *("config.json", "modules.json", "1_Pooling", "1_Pooling/config.json"),
        *("model.safetensors", "manifest.json"),
    }


def test_too_small_a_disk_is_seen_before_anything_is_fetched(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import shutil\n"
        "shutil.disk_usage = lambda path: shutil._ntuple_diskusage(10, 10, 100_000)\n"
    )
    path = f"{site}:{os.environ['PYTHONPATH']}"
    failed(fetch(hub, tmp_path / "tiny", PYTHONPATH=path), "GB are still to be fetched", "GB free")
    assert not set(hub.sent) & set(WEIGHTS)


def test_a_disk_that_fills_up_on_the_way_keeps_what_was_fetched(tmp_path: Path, hub: Hub) -> None:
    part = tmp_path / ".tiny.partial" / ".parts" / WEIGHTS[1]
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    failed(fetch(hub, tmp_path / "tiny"), NAME, "the disk is full; what was fetched is kept")
    part.unlink()
    hub.sent.clear()
    done = fetch(hub, tmp_path / "tiny")
    assert done.returncode == 0, done.stderr
    assert set(hub.sent) == {WEIGHTS[1]}


def test_a_study_names_repository_and_commit() -> None:
    model = HubModel(source="hub", repository=NAME, revision=COMMIT, family="llava")
    assert model.folder == f"resources/models/{NAME}/{COMMIT}"
    with pytest.raises(ValidationError, match="'bert' is not supported; supported are llava"):
        HubModel(source="hub", repository=NAME, revision=COMMIT, family="bert")
    with pytest.raises(ValidationError, match="revision"):
        HubModel(source="hub", repository=NAME, revision="main")
