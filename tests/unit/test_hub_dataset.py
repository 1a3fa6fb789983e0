import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import COMMIT, Hub, serving
from PIL import Image
from pydantic import ValidationError

from mmpref.datasets.hub import HubDataset

ROOT = Path(__file__).parents[2]
NAME = "example/formatted"


def png() -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 6), "red").save(file, "PNG")
    return file.getvalue()


def parquet(answers: list[str]) -> bytes:
    """Return a shard as datasets' push_to_hub writes it for a vision dataset of TRL."""
    rows = [
        {
            "images": [{"bytes": png(), "path": None}],
            "prompt": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "text": None},
                        {"type": "text", "text": "What is it?"},
                    ],
                }
            ],
            "chosen": [{"role": "assistant", "content": [{"type": "text", "text": answer}]}],
            "rejected": [{"role": "assistant", "content": [{"type": "text", "text": "A dog."}]}],
        }
        for answer in answers
    ]
    file = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        hub.repositories[NAME] = {
            "README.md": b"---\nlicense: cc-by-nc-4.0\n---\n# Data\n",
            "data/train-00000-of-00002.parquet": parquet(["A cup.", "A mug."]),
            "data/train-00001-of-00002.parquet": parquet(["A glass."]),
            "data/test-00000-of-00001.parquet": parquet(["A pot."]),
            "formatted.py": b"raise SystemExit",
            "cache.pkl": b"pickle",
        }
        yield hub


def start(hub: Hub, target: Path, *files: str, revision: str = COMMIT) -> subprocess.Popen[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "scripts" / "hub_dataset.py"), "--repository", NAME),
            *("--revision", revision, "--files", *files, "--output", str(target)),
        ],
        env=own | {"HF_ENDPOINT": hub.url, "HF_HOME": str(target.parent / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def fetch(hub: Hub, target: Path, *files: str, **options: str) -> tuple[int | None, str]:
    process = start(hub, target, *files, **options)
    _, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors
    return process.returncode, errors


def test_the_files_that_match_and_the_card_are_fetched(tmp_path: Path, hub: Hub) -> None:
    code, errors = fetch(hub, tmp_path / "data", "data/train-*")
    assert code == 0, errors
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["files"] == [
        "README.md",
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
    ]
    assert set(hub.sent) == set(manifest["files"])
    assert (manifest["repository"], manifest["revision"]) == (NAME, COMMIT)
    assert manifest["licence"] == "cc-by-nc-4.0"


def test_a_killed_download_of_a_dataset_goes_on(tmp_path: Path, hub: Hub) -> None:
    shard = "data/train-00001-of-00002.parquet"
    content = hub.repositories[NAME][shard] = os.urandom(25_000_000)
    hub.cut[shard] = 12_000_000
    hub.go_on.clear()
    process = start(hub, tmp_path / "data", "data/train-*")
    part = tmp_path / ".data.partial" / ".parts" / shard
    while not (part.is_file() and part.stat().st_size > 10_000_000):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    hub.go_on.set()
    assert not (tmp_path / "data").exists()
    hub.cut.clear()
    hub.sent.clear()
    code, errors = fetch(hub, tmp_path / "data", "data/train-*")
    assert code == 0, errors
    assert set(hub.sent) == {shard}
    assert hub.sent[shard] < 20_000_000
    assert (tmp_path / "data" / shard).read_bytes() == content


def test_files_that_are_not_there_or_not_data(tmp_path: Path, hub: Hub) -> None:
    target = tmp_path / "data"
    code, errors = fetch(hub, target, "data/valid-*")
    assert code == 1
    assert "no file matches data/valid-*; it has README.md, cache.pkl, data/test-0000" in errors
    code, errors = fetch(hub, target, "*")
    assert code == 1
    assert "cache.pkl, formatted.py: not a kind of data that is read" in errors
    code, errors = fetch(hub, target, "data/train-*", revision="f" * 40)
    assert code == 1
    assert "the revision does not exist" in errors
    assert not hub.sent


def test_a_hub_that_names_files_outside_of_the_repository(tmp_path: Path, hub: Hub) -> None:
    hub.repositories[NAME]["data/../../../evil.json"] = b"[]"
    code, errors = fetch(hub, tmp_path / "data", "data/*")
    assert code == 1
    assert "names a file outside of itself (data/../../../evil.json)" in errors
    assert not list(tmp_path.rglob("evil.json"))


def test_a_study_names_repository_commit_files_and_format() -> None:
    def dataset(**changes: Any) -> HubDataset:
        given: dict[str, Any] = {
            "source": "hub",
            "repository": NAME,
            "revision": COMMIT,
            "files": ["a.parquet", "b.parquet"],
            "format": "trl",
        }
        return HubDataset(**given | changes)

    (folder,) = dataset().inputs
    assert folder.startswith(f"resources/datasets/{NAME}/{COMMIT}/")
    assert dataset(files=["b.parquet", "a.parquet"]).inputs == (folder,)
    assert dataset(files=["b.parquet"]).inputs != (folder,)
    wrong: dict[str, Any]
    for wrong in ({"revision": "main"}, {"files": []}, {"format": "alpaca"}, {"repository": "x"}):
        with pytest.raises(ValidationError):
            dataset(**wrong)


def test_pairs_come_from_what_was_fetched(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("cup.png", png())
    row = {
        "messages": [
            {"role": "user", "content": "<image>What?"},
            {"role": "assistant", "content": "A cup."},
        ],
        "rejected_response": "A dog.",
        "images": ["cup.png"],
    }
    hub.repositories[NAME] |= {"rows.json": json.dumps([row]).encode(), "i.zip": file.getvalue()}
    monkeypatch.chdir(tmp_path)
    format: Any
    for format, files, images, answers in (
        ("trl", ["data/train-*"], None, ["A cup.", "A mug.", "A glass."]),
        ("ms-swift", ["rows.json", "i.zip"], "i.zip", ["A cup."]),
    ):
        dataset = HubDataset(
            source="hub",
            repository=NAME,
            revision=COMMIT,
            files=files,
            format=format,
            images=images,
        )
        Path(dataset.folder).parent.mkdir(parents=True, exist_ok=True)
        code, errors = fetch(hub, tmp_path / dataset.folder, *files)
        assert code == 0, errors
        about = dataset.write("pairs.parquet", 0)
        assert about["pairs"] == len(answers)
        assert about["quarantined"] == 0
        licence = "cc-by-nc-4.0"
        assert about["origins"] == [{"source": NAME, "revision": COMMIT, "licence": licence}]
        found = pq.read_table("pairs.parquet").sort_by("position").to_pylist()
        assert [row["chosen"][0]["content"] for row in found] == answers
