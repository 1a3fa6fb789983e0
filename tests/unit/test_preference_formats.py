"""Other trainers' preference formats, with rows in the exact form of each."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from raw_datasets import FORMATTED as ROWS
from raw_datasets import LLAMA_FACTORY, MS_SWIFT, png

from mmpref.datasets.preference_format import PreferenceFormatDataset
from mmpref.errors import InputError
from mmpref.records.export import export_pairs
from mmpref.records.pairs import validate, write_pairs
from mmpref.records.rows import Pair, Quarantined


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cup.png").write_bytes(png())
    (tmp_path / "b.png").write_bytes(png("blue"))
    return tmp_path


def results(
    folder: Path, format: Any, *rows: dict[str, Any], **options: Any
) -> list[Pair | Quarantined]:
    """Read rows through Parquet where they hold bytes, through JSON lines otherwise."""
    for old in folder.glob("train.*"):
        old.unlink()
    if "bytes" in str(rows):
        pq.write_table(pa.Table.from_pylist(list(rows)), folder / "train.parquet")
    else:
        (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = PreferenceFormatDataset(
        source="preference_format", folder=str(folder), format=format, **options
    )
    required = options.get("require_rejected", True)
    return list(validate(dataset.rows(0, required), required))


@pytest.mark.parametrize("format", ROWS)
def test_every_format_gives_the_same_pair(folder: Path, format: str) -> None:
    (pair,) = results(folder, format, ROWS[format])
    assert isinstance(pair, Pair)
    assert (pair.prompt, pair.chosen, pair.rejected) == ("What is it?", "A cup.", "A dog.")
    assert pair.images == (png(),)
    assert len(pair.id) == 16


def test_the_other_forms_of_trl(folder: Path) -> None:
    """Plain texts with one image; and conversations whose prompt stands in both answers."""
    plain = {"prompt": "<image>What?", "chosen": "A cup.", "rejected": "A dog.", "image": "cup.png"}
    question = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What?"},
        {"role": "assistant", "content": "A cup."},
        {"role": "user", "content": "Where?"},
    ]
    implicit = {
        "id": "mine",
        "images": ["cup.png"],
        "chosen": [*question, {"role": "assistant", "content": "There."}],
        "rejected": [*question, {"role": "assistant", "content": "Here."}],
    }
    first, second = results(folder, "trl", plain, implicit)
    assert isinstance(first, Pair)
    assert isinstance(second, Pair)
    assert (first.prompt, first.chosen) == ("What?", "A cup.")
    assert second.id == "mine"
    assert second.prompt == "Be brief.\n\nUser: What?\n\nAssistant: A cup.\n\nUser: Where?"
    assert (second.chosen, second.rejected) == ("There.", "Here.")


def test_llama_factory_with_roles_and_a_system_prompt(folder: Path) -> None:
    row = LLAMA_FACTORY | {
        "conversations": [{"role": "user", "content": "<image>What is it?"}],
        "chosen": {"role": "assistant", "content": "A cup."},
        "system": "Be brief.",
    }
    (pair,) = results(folder, "llama-factory", row)
    assert isinstance(pair, Pair)
    assert (pair.prompt, pair.chosen) == ("Be brief.\n\nWhat is it?", "A cup.")


def test_rejected_may_be_absent_when_it_will_be_sampled(folder: Path) -> None:
    format: Any
    for format, row in ROWS.items():
        names = ("rejected", "rejected_response")
        row = {name: value for name, value in row.items() if name not in names}
        (bad,) = results(folder, format, row)
        assert isinstance(bad, Quarantined)
        assert (bad.field, bad.reason) == ("rejected", "is missing")
        dataset = PreferenceFormatDataset(
            source="preference_format", folder=str(folder), format=format
        )
        (pair,) = validate(dataset.rows(0, False), False)
        assert isinstance(pair, Pair)


def test_two_images_are_kept_where_a_pair_can_hold_them(folder: Path) -> None:
    two = {"images": ["cup.png", "b.png"]}

    def asked(text: str) -> dict[str, Any]:
        return MS_SWIFT | two | {"messages": [{"role": "user", "content": text}, ANSWER]}

    before, unmarked, between, one, three = results(
        folder,
        "ms-swift",
        asked("<image> <image>\nWhich is red?"),
        asked("Which is blue?"),
        asked("<image> Is it like <image> here?"),
        asked("<image>Which?"),
        asked("<image><image><image>Which?"),
    )
    for pair, prompt in ((before, "Which is red?"), (unmarked, "Which is blue?")):
        assert isinstance(pair, Pair)
        assert pair.prompt == prompt
        assert pair.images == (png(), png("blue"))
    reasons = [row.reason for row in (between, one, three) if isinstance(row, Quarantined)]
    assert reasons == [
        "has text between its images, which a pair cannot hold",
        "does not have as many placeholders as images (1, not 2)",
        "does not have as many placeholders as images (3, not 2)",
    ]


ANSWER = {"role": "assistant", "content": "A cup."}


@pytest.mark.parametrize(
    ("format", "change", "field", "reason"),
    [
        ("ms-swift", {"images": []}, "images", "is not a list of images"),
        ("ms-swift", {"images": None}, "images", "is missing"),
        ("ms-swift", {"images": 7}, "images", "is not a list of images"),
        ("ms-swift", {"images": ["../cup.png"]}, "images", "leaves the image folder"),
        ("ms-swift", {"images": ["/etc/passwd"]}, "images", "leaves the image folder"),
        ("ms-swift", {"images": ["data:image/png;base64,iVBO"]}, "images", "should be an image"),
        ("ms-swift", {"rejected_images": ["b.png"]}, "images", "is not all"),
        ("ms-swift", {"messages": []}, "messages", "does not end with an answer"),
        ("ms-swift", {"messages": [ANSWER]}, "prompt", "does not end with a question"),
        ("ms-swift", {"messages": "What?"}, "messages", "should be a list of messages (is str)"),
        ("ms-swift", {"messages": [{"role": "tool", "content": ""}]}, "messages", "has an unknown"),
        ("llama-factory", {"conversations": None}, "conversations", "is missing"),
        ("llama-factory", {"chosen": "A cup."}, "chosen", "should hold messages"),
        ("llama-factory", {"rejected": {"from": "gpt", "value": 3}}, "rejected", "should be text"),
        ("trl", {"prompt": None}, "prompt", "does not end with a question"),
        ("trl", {"chosen": "A cup."}, "chosen", "should be a list of messages"),
        ("trl", {"rejected": []}, "rejected", "does not end with an answer"),
        ("trl", {"chosen": [ANSWER, ANSWER]}, "rejected", "does not begin as chosen does"),
    ],
)
def test_rows_that_are_no_pairs(
    folder: Path, format: str, change: dict[str, Any], field: str, reason: str
) -> None:
    row = ROWS[format] | {"images": ["cup.png"], "id": "x"} | change
    bad, good = results(folder, format, row, ROWS[format] | {"images": ["cup.png"]})
    assert isinstance(good, Pair)
    assert isinstance(bad, Quarantined)
    assert (bad.id, bad.row, bad.field) == ("x", 1, field)
    assert bad.reason.startswith(reason)


def test_files_are_chosen_by_pattern_and_images_may_lie_in_an_archive(folder: Path) -> None:
    deep = folder / "data"
    deep.mkdir()
    for name, answer in (
        ("train-0.jsonl", "A cup."),
        ("train-1.jsonl", "A mug."),
        ("test.json", ""),
    ):
        row = LLAMA_FACTORY | {"chosen": {"from": "gpt", "value": answer}, "images": ["in/x.png"]}
        (deep / name).write_text(json.dumps(row))
    (deep / "train-0.txt").write_text("not read")
    with zipfile.ZipFile(folder / "images.zip", "w") as zipped:
        zipped.writestr("in/x.png", png())
    options: dict[str, Any] = {
        "source": "preference_format",
        "folder": str(folder),
        "format": "llama-factory",
    }
    dataset = PreferenceFormatDataset(
        **options, files=["data/train-*"], images=str(folder / "images.zip")
    )
    paths = [str(deep / "train-0.jsonl"), str(deep / "train-1.jsonl")]
    assert list(dataset.inputs) == paths
    pairs = list(validate(dataset.rows(0, True)))
    assert [pair.chosen for pair in pairs if isinstance(pair, Pair)] == ["A cup.", "A mug."]
    with pytest.raises(InputError, match=r"has no file that matches valid-\* and ends in \.jsonl"):
        list(PreferenceFormatDataset(**options, files=["valid-*"]).rows(0, True))


@pytest.mark.parametrize("format", ROWS)
def test_what_is_exported_is_read_again(tmp_path: Path, format: Any) -> None:
    pairs = [
        Pair("a", (png(),), "What is it?", "A cup.", "A dog.", "test"),
        Pair("b", (png(), png("blue")), "Which is red?", "The first.", "The second.", "test"),
    ]
    write_pairs(tmp_path / "pairs.parquet", pairs)
    export_pairs(tmp_path / "pairs.parquet", format, tmp_path / "exported")
    dataset = PreferenceFormatDataset(
        source="preference_format", folder=str(tmp_path / "exported"), format=format
    )
    again = [pair for pair in validate(dataset.rows(0, True)) if isinstance(pair, Pair)]
    assert [(pair.id, pair.images, pair.prompt, pair.chosen, pair.rejected) for pair in again] == [
        (pair.id, pair.images, pair.prompt, pair.chosen, pair.rejected) for pair in pairs
    ]
