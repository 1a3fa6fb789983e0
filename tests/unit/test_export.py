"""Pairs in the formats of other trainers."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import load_dataset

from mmpref.__main__ import main
from mmpref.errors import InputError
from mmpref.records import parquet
from mmpref.records.export import export_pairs
from mmpref.records.images import open_image
from mmpref.records.pairs import Pairs, write_pairs
from mmpref.records.rows import Pair


@pytest.fixture
def pairs(picture) -> list[Pair]:
    """Six pairs about four images, in three formats of files; the last pair has two images."""

    def encoded(seed: int, kind: str) -> bytes:
        file = io.BytesIO()
        picture(seed).save(file, kind)
        return file.getvalue()

    files = [encoded(0, "PNG"), encoded(1, "JPEG"), encoded(2, "WEBP"), encoded(3, "PNG")]
    images = [files[:1], files[1:2], files[2:3], files[:1], files[1:2], files[2:]]
    return [
        Pair(f"pair {n}", tuple(of), f"Frage {n}?\n»ü« \u2028", f"Yes {n}.", f"No {n}.", "test")
        for n, of in enumerate(images)
    ]


@pytest.fixture
def file(tmp_path: Path, pairs: list[Pair]) -> Path:
    write_pairs(tmp_path / "pairs.parquet", pairs)
    return tmp_path / "pairs.parquet"


def lines(folder: Path) -> list[dict]:
    with (folder / "pairs.jsonl").open(encoding="utf-8") as rows:
        return [json.loads(row) for row in rows]


def test_trl_gets_the_file_and_datasets_loads_it(tmp_path, file, pairs):
    assert export_pairs(file, "trl", tmp_path / "out") == len(pairs)
    written = tmp_path / "out" / "pairs.parquet"
    assert written.read_bytes() == file.read_bytes()
    rows = load_dataset(
        "parquet", data_files=str(written), split="train", cache_dir=str(tmp_path / "cache")
    )
    by_id = {row["id"]: row for row in rows}
    for pair in pairs:
        row = by_id[pair.id]
        assert row["prompt"] == [{"role": "user", "content": pair.prompt}]
        assert row["chosen"] == [{"role": "assistant", "content": pair.chosen}]
        assert row["rejected"] == [{"role": "assistant", "content": pair.rejected}]
        assert [image.convert("RGB") for image in row["images"]] == list(
            map(open_image, pair.images)
        )


@pytest.mark.parametrize("trainer", ["ms-swift", "llama-factory"])
def test_all_of_a_pair_comes_back(tmp_path, file, pairs, trainer):
    folder = tmp_path / "my pairs"
    assert export_pairs(file, trainer, folder) == len(pairs)
    found = {}
    for row in lines(folder):
        if trainer == "ms-swift":
            assert list(row) == ["id", "messages", "rejected_response", "images"]
            user, assistant = row["messages"]
            assert (user["role"], assistant["role"]) == ("user", "assistant")
            question, chosen = user["content"], assistant["content"]
            rejected = row["rejected_response"]
        else:
            assert list(row) == ["id", "conversations", "chosen", "rejected", "images"]
            (turn,) = row["conversations"]
            assert turn["from"] == "human"
            assert row["chosen"]["from"] == row["rejected"]["from"] == "gpt"
            question, chosen = turn["value"], row["chosen"]["value"]
            rejected = row["rejected"]["value"]
        assert question.count("<image>") == len(row["images"])
        images = tuple((folder / name).read_bytes() for name in row["images"])
        text = question.removeprefix("<image>" * len(images))
        found[row["id"]] = Pair(row["id"], images, text, chosen, rejected, "test")
    assert found == {pair.id: pair for pair in pairs}
    # Each image once, with the suffix of its format.
    assert sorted(path.suffix for path in (folder / "images").iterdir()) == [
        ".jpeg", ".png", ".png", ".webp"
    ]  # fmt: skip
    listed = folder / "dataset_info.json"
    if trainer == "llama-factory":
        entry = json.loads(listed.read_text())["my pairs"]
        assert (entry["formatting"], entry["ranking"]) == ("sharegpt", True)
        assert (folder / entry["file_name"]).is_file()
        assert set(entry["columns"].values()) == set(lines(folder)[0]) - {"id"}
    else:
        assert not listed.exists()


def test_rows_are_read_in_the_order_of_the_file(tmp_path, file, pairs, monkeypatch):
    monkeypatch.setattr(parquet, "GROUP_ROWS", 1)
    write_pairs(file, pairs)
    order = []

    def noted(self, key, read=Pairs.__getitem__):
        order.append(int(self.places[key]))
        return read(self, key)

    monkeypatch.setattr(Pairs, "__getitem__", noted)
    export_pairs(file, "ms-swift", tmp_path / "out")
    assert order == list(range(len(pairs)))
    # Pairs about one image lie together in the file, so this is not the order of the pairs.
    assert [row["id"] for row in lines(tmp_path / "out")] != [pair.id for pair in pairs]


def test_what_a_trainer_would_misread_is_refused(tmp_path, file, pairs):
    write_pairs(file, [*pairs[:2], replace(pairs[2], rejected="See <video>.")])
    with pytest.raises(InputError, match="pair pair 2, rejected: holds <video>"):
        export_pairs(file, "llama-factory", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    write_pairs(file, [replace(pairs[0], images=(b"GIF?",))])
    with pytest.raises(InputError, match="pair pair 0, images: cannot be read as an image"):
        export_pairs(file, "ms-swift", tmp_path / "out")
    write_pairs(file, [replace(pairs[0], rejected="")])
    with pytest.raises(InputError, match="row 1, rejected: is empty"):
        export_pairs(file, "trl", tmp_path / "out")


def test_a_folder_with_something_in_it_stays_as_it_is(tmp_path, file):
    kept = tmp_path / "out" / "thesis.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(InputError, match="already exists and is not empty; give a new folder"):
        export_pairs(file, "trl", kept.parent)
    assert kept.read_text() == "mine"
    kept.unlink()
    export_pairs(file, "trl", kept.parent)
    assert [path.name for path in kept.parent.iterdir()] == ["pairs.parquet"]


def test_further_rejected_answers_are_announced(tmp_path, file, pairs, capfd):
    write_pairs(file, [pairs[0], replace(pairs[1], more_rejected=("Maybe.",))])
    export_pairs(file, "ms-swift", tmp_path / "out")
    assert "note: 1 of 2 pairs have more than one rejected answer" in capfd.readouterr().err
    assert {row["rejected_response"] for row in lines(tmp_path / "out")} == {"No 0.", "No 1."}


def test_the_command(tmp_path, file, monkeypatch, capfd):
    folder = tmp_path / "out"
    arguments = ["export", str(file), "--format", "llama-factory", "--output", str(folder)]
    monkeypatch.setattr(sys, "argv", ["mmpref", *arguments])
    main()
    assert f"{folder}: 6 pairs; read them with: dataset_dir: {folder}, dataset: out" in (
        capfd.readouterr().err
    )
    assert json.loads((folder / "dataset_info.json").read_text()).keys() == {"out"}
    with pytest.raises(SystemExit):
        main()
    assert "already exists and is not empty" in capfd.readouterr().err
