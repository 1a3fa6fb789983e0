import json
from pathlib import Path

import pandas as pd
import pytest

from mmpref.benchmarks.gqa import score as gqa
from mmpref.benchmarks.gqa.items import items as read_items
from mmpref.errors import InputError
from mmpref.records.items import Item
from mmpref.scoring.resources import Resources


def question(answer: str, structural: str = "query") -> Item:
    truth = {"kind": "gqa", "image": "n1.jpg", "answer": answer, "structural": structural}
    return Item("1", (), "What is it?", truth)


def judged(answer: str, response: str, structural: str = "query") -> dict:
    return gqa.verdict(question(answer, structural), response, Resources())


@pytest.mark.parametrize(
    ("answer", "response", "official", "strict"),
    [
        ("yes", "Yes", True, True),
        ("yes", "YES...", True, True),
        ("yes", ".yes", False, True),
        ("yes", "Yes, it is", False, False),
        ("yes", "Yes!", False, True),
        ("yes", " yes", False, True),
        ("yes", "yes. ", False, True),
        ("yes", "yes\n", False, True),
        ("dog", "a dog", False, True),
        ("dog", "dogs", False, False),
        ("t-shirt", "T-shirt.", True, True),
        ("t-shirt", "t shirt", False, True),
        ("yes", "", False, False),
        ("yes", ".", False, False),
    ],
)
def test_both_readings(answer, response, official, strict):
    row = judged(answer, response)
    assert (row["official_correct"], row["strict_correct"]) == (official, strict)
    assert row["differs"] == (official != strict)
    assert row["flawed"] is not strict
    assert row["unparsed"] == (response in ("", "."))
    assert ("official" in row["note"]) == (official != strict)


def test_accuracy_overall_and_of_binary_and_open_questions():
    rows = [
        judged("dog", "Dog."),
        judged("dog", "A dog"),
        judged("dog", "cat"),
        judged("yes", "yes", "verify"),
        judged("left", "right", "choose"),
        judged("no", "No.", "logical"),
        judged("cup", "cup!", "compare"),
    ]
    sums = pd.DataFrame(rows).select_dtypes("number").fillna(0).sum()
    columns = {name: sums[[name]].to_numpy(float) for name in sums.index}
    found = {
        name: float(metric.compute(columns)[0])
        for name, metric in gqa.metrics(set(sums.index)).items()
    }
    assert found == pytest.approx(
        {
            "official/accuracy": 42.86,  # 3 / 7
            "official/binary/accuracy": 50.0,
            "official/open/accuracy": 33.33,
            "strict/accuracy": 500 / 7,
            "strict/binary/accuracy": 75.0,
            "strict/open/accuracy": 200 / 3,
        },
        abs=1e-12,
    )


def test_without_open_questions_there_is_no_such_part():
    names = gqa.metrics(set(judged("yes", "no", "verify")))
    assert set(names) == {
        f"{reading}/{name}"
        for reading in ("official", "strict")
        for name in ("accuracy", "binary/accuracy")
    }


def write(folder: Path, **fields: object) -> Path:
    row = {
        "semantic": [{"operation": "select", "dependencies": [], "argument": "scene"}],
        "entailed": ["20968379"],
        "question": "Is it overcast?",
        "imageId": "n161313",
        "isBalanced": True,
        "groups": {"global": None, "local": "13-weather_overcast"},
        "answer": "no",
        "types": {"detailed": "weatherVerify", "semantic": "global", "structural": "verify"},
        "fullAnswer": "No, it is clear.",
    }
    content = {"201307251": row | fields}
    (folder / "testdev_balanced_questions.json").write_text(json.dumps(content))
    return folder


def test_items(tmp_path):
    (item,) = read_items(write(tmp_path))
    assert (item.id, item.prompt, item.images) == ("201307251", "Is it overcast?", ())
    assert item.truth == {"kind": "gqa", "image": "n161313.jpg", "answer": "no",
                          "structural": "verify", "semantic": "global"}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"answer": None}, "answer is missing"),
        ({"imageId": 7}, "imageId is missing"),
        ({"types": {"semantic": "global"}}, "structural is missing"),
        ({"types": None}, "structural is missing"),
        ({"isBalanced": False}, "isBalanced is false"),
    ],
)
def test_foreign_questions_are_refused(tmp_path, fields, words):
    with pytest.raises(InputError, match=rf"questions\.json: question 201307251: {words}"):
        read_items(write(tmp_path, **fields))


def test_foreign_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"testdev_balanced_questions\.json: cannot be read"):
        read_items(tmp_path)
    (tmp_path / "testdev_balanced_questions.json").write_text("[]")
    with pytest.raises(InputError, match="not an object of questions"):
        read_items(tmp_path)
