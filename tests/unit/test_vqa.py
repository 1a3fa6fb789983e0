import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from verdicts import values

from mmpref.benchmarks.vqa import score as vqa
from mmpref.benchmarks.vqa.items import items as read_items
from mmpref.errors import InputError
from mmpref.records.items import Item
from mmpref.scoring.resources import Resources

YES_TEN_TIMES = ["yes"] * 10


def question(answers: Sequence[str], version: str = "vqav2", **truth: str) -> Item:
    known = {"kind": "vqa", "version": version, "image": "1.jpg", "answers": [*answers]}
    return Item("1", (), "What is it?", known | truth)


def tenths(answers: Sequence[str], response: str, version: str = "vqav2") -> tuple[int, int]:
    row = vqa.verdict(question(answers, version), response, Resources())
    return row["official_tenths"], row["strict_tenths"]


@pytest.mark.parametrize("version", ["vqav2", "textvqa"])
@pytest.mark.parametrize(
    ("people", "percent"), [(0, 0), (1, 30), (2, 60), (3, 90), (4, 100), (9, 100), (10, 100)]
)
def test_agreement_with_some_of_ten_people(version, people, percent):
    item = question(["red"] * people + ["blue"] * (10 - people), version)
    found = values(vqa, [vqa.verdict(item, "red", Resources())])
    assert found == {"official/accuracy": percent, "strict/accuracy": percent}


@pytest.mark.parametrize(
    ("answers", "response", "vqav2", "textvqa", "strict"),
    [
        # vqaEval.py takes unanimous answers as they are, and all others without capitals, ...
        (YES_TEN_TIMES, "yes", 10, 10, 10),
        (YES_TEN_TIMES, " yes\n", 10, 10, 10),
        (YES_TEN_TIMES, "Yes", 0, 10, 10),
        (YES_TEN_TIMES, "yes.", 0, 10, 10),
        (["2"] * 10, "two", 0, 10, 10),
        (["a dog"] * 10, "dog", 0, 10, 10),
        ([*["yes"] * 9, "no"], "Yes.", 10, 10, 10),
        ([*["2"] * 9, "3"], "two", 10, 10, 10),
        ([*["the dog"] * 2, *["cat"] * 8], "a dog", 6, 6, 6),
        ([*["dont walk"] * 4, *["stop"] * 6], "Don't walk", 10, 10, 10),
        # ... unless they differ only in what surrounds them.
        (["yes", *["yes "] * 9], "Yes", 0, 10, 10),
        # M4C parts the genitive s, on both sides.
        ([*["joe's"] * 4, *["joe"] * 6], "Joe's", 10, 10, 10),
        ([*["joe 's"] * 4, *["joe"] * 6], "Joe's", 0, 10, 0),
        # It also removes every question mark, where others leave a space.
        ([*["who now"] * 4, *["red"] * 6], "who?now", 10, 0, 10),
        # A hyphen next to a space anywhere makes every hyphen vanish, not become a space.
        ([*["t shirt red"] * 4, *["red"] * 6], "t-shirt - red", 0, 0, 10),
        ([*["tshirt red"] * 4, *["red"] * 6], "t-shirt - red", 10, 10, 0),
        ([*["t shirt"] * 4, *["red"] * 6], "t-shirt", 10, 10, 10),
        # So does a comma between digits, which M4C has removed before.
        ([*["1000 2"] * 4, *["1"] * 6], "1,000/2", 0, 10, 10),
        ([*["10002"] * 4, *["1"] * 6], "1,000/2", 10, 0, 0),
        ([*["100978"] * 4, *["1"] * 6], "100,978", 10, 10, 10),
        # Every period goes that is not before a digit, ...
        ([*["2"] * 4, *["3"] * 6], "2.", 10, 10, 10),
        ([*["usa"] * 4, *["uk"] * 6], "U.S.A.", 10, 10, 10),
        ([*["2.5"] * 4, *["25"] * 6], "2.5", 10, 10, 10),
        ([*["$.5"] * 4, *["$5"] * 6], "$.5", 10, 10, 10),
        # ... but officially only the first 32 of them.
        ([*["x"] * 4, *["y"] * 6], "x" + "." * 32, 10, 10, 10),
        ([*["x"] * 4, *["y"] * 6], "x" + "." * 33, 0, 0, 10),
        # Apostrophes and colons stay.
        ([*["girls"] * 4, *["boy"] * 6], "girl's", 0, 0, 0),
        ([*["250"] * 4, *["3"] * 6], "2:50", 0, 0, 0),
        # Contractions whose official entry is turned round, or has a capital letter.
        ([*["somebody'd"] * 4, *["x"] * 6], "somebodyd", 10, 10, 10),
        ([*["i'm"] * 4, *["x"] * 6], "Im", 0, 0, 10),
        ([*["let's go"] * 4, *["x"] * 6], "lets go", 0, 0, 10),
        ([*["you'd've"] * 4, *["x"] * 6], "youd've", 10, 10, 10),
        ([*["wont"] * 4, *["x"] * 6], "won't", 10, 10, 10),
        # An article alone is nothing, and officially matches any other nothing.
        ([*["a"] * 4, *["the"] * 6], "an", 10, 10, 0),
        ([*["a"] * 4, *["b"] * 6], "A", 10, 10, 10),
        (["?"] * 10, "", 0, 10, 0),
        (["no"] * 10, "none", 0, 0, 0),
    ],
)
def test_both_readings(answers, response, vqav2, textvqa, strict):
    assert tenths(answers, response) == (vqav2, strict)
    assert tenths(answers, response, "textvqa") == (textvqa, strict)


@pytest.mark.parametrize(("response", "unparsed"), [("", 1), (" \n", 1), ("...", 1), ("a", 0)])
def test_an_empty_answer_is_wrong_and_counted(response, unparsed):
    row = vqa.verdict(question(YES_TEN_TIMES), response, Resources())
    assert row["unparsed"] == unparsed
    assert row["flawed"] is True
    assert row["strict_tenths"] == 0


def test_what_is_shown_to_readers():
    row = vqa.verdict(question([*["Red"] * 7, *["pink"] * 3]), "pink", Resources())
    assert row["expected"] == "Red (7), pink (3)"
    assert (row["note"], row["flawed"]) == ("the answer of 3 in 10 people", False)
    row = vqa.verdict(question(YES_TEN_TIMES), "Yes", Resources())
    assert row["expected"] == "yes"
    assert row["note"] == "the answer of 10 in 10 people (official: 0 %)"
    assert row["differs"] == 1


def test_accuracy_overall_and_by_type_of_answer():
    rows = [
        vqa.verdict(question(answers, answer_type=kind), response, Resources())
        for answers, kind, response in [
            (YES_TEN_TIMES, "yes/no", "yes"),
            (YES_TEN_TIMES, "yes/no", "Yes"),
            (YES_TEN_TIMES, "yes/no", "no"),
            (["red"] + ["blue"] * 9, "other", "red"),
            (["1"] * 2 + ["2"] * 8, "number", "one"),
            (["1"] * 3 + ["2"] * 7, "number", "one"),
            (["1"] * 3 + ["2"] * 7, "number", "three"),
        ]
    ]
    assert values(vqa, rows) == pytest.approx(
        {
            "official/accuracy": 40.0,  # 280 / 7
            "official/yes-no/accuracy": 33.33,
            "official/number/accuracy": 50.0,
            "official/other/accuracy": 30.0,
            "strict/accuracy": 380 / 7,
            "strict/yes-no/accuracy": 200 / 3,
            "strict/number/accuracy": 50.0,
            "strict/other/accuracy": 30.0,
        },
        abs=1e-12,
    )


def vqav2_files(folder: Path, answers: Sequence[object] = YES_TEN_TIMES, id: object = 262148000):
    questions = [{"image_id": 262148, "question": "Is it a dog?", "question_id": 262148000}]
    given = [
        {"answer": answer, "answer_confidence": "yes", "answer_id": number}
        for number, answer in enumerate(answers, start=1)
    ]
    annotation = {"question_type": "is it a", "multiple_choice_answer": "yes", "answers": given,
                  "image_id": 262148, "answer_type": "yes/no", "question_id": id}  # fmt: skip
    (folder / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(
        json.dumps({"data_subtype": "val2014", "questions": questions})
    )
    (folder / "v2_mscoco_val2014_annotations.json").write_text(
        json.dumps({"data_subtype": "val2014", "annotations": [annotation]})
    )
    return folder


def textvqa_file(folder: Path, **fields: object) -> Path:
    row = {"question": "what does it say?", "image_id": "003a8ae2ef43b901", "question_id": 34602,
           "image_classes": ["Sign"], "answers": ["stop"] * 10, "set_name": "val"}  # fmt: skip
    (folder / "TextVQA_0.5.1_val.json").write_text(json.dumps({"data": [row | fields]}))
    return folder


def test_items_of_vqav2(tmp_path):
    (item,) = read_items(vqav2_files(tmp_path), "vqav2")
    assert (item.id, item.prompt, item.images) == ("262148000", "Is it a dog?", ())
    assert item.truth == {
        "kind": "vqa",
        "version": "vqav2",
        "image": "COCO_val2014_000000262148.jpg",
        "answers": YES_TEN_TIMES,
        "question_type": "is it a",
        "answer_type": "yes/no",
    }


def test_items_of_textvqa(tmp_path):
    (item,) = read_items(textvqa_file(tmp_path), "textvqa")
    assert (item.id, item.prompt) == ("34602", "what does it say?")
    assert item.truth == {
        "kind": "vqa",
        "version": "textvqa",
        "image": "003a8ae2ef43b901.jpg",
        "answers": ["stop"] * 10,
    }


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"answers": ["stop"] * 9}, r"question_id 34602 \(question 1\): answers: not a list of 10"),
        ({"answers": None}, "answers: not a list of 10"),
        ({"answers": [*["stop"] * 9, 1]}, "answers: one is not a text"),
        ({"image_id": None}, "question or image_id is missing"),
        ({"question": None}, "question or image_id is missing"),
    ],
)
def test_foreign_questions_are_refused(tmp_path, fields, words):
    with pytest.raises(InputError, match=rf"TextVQA_0\.5\.1_val\.json: .*{words}"):
        read_items(textvqa_file(tmp_path, **fields), "textvqa")


def test_foreign_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"questions\.json: cannot be read"):
        read_items(tmp_path, "vqav2")
    vqav2_files(tmp_path, id=1)
    with pytest.raises(InputError, match=r"question_id 262148000 .*: has no annotation"):
        read_items(tmp_path, "vqav2")
    vqav2_files(tmp_path, answers=["yes"] * 11)
    with pytest.raises(InputError, match=r"annotations\.json: .*not a list of 10"):
        read_items(tmp_path, "vqav2")
    path = tmp_path / "TextVQA_0.5.1_val.json"
    for content in (b"{", b'{"data": "caf\xe9"}'):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is not JSON"):
            read_items(tmp_path, "textvqa")
    path.write_text('{"questions": []}')
    with pytest.raises(InputError, match="data is not a list of objects"):
        read_items(tmp_path, "textvqa")
    row = {"question": "?", "image_id": "a", "question_id": 7, "answers": ["a"] * 10}
    path.write_text(json.dumps({"data": [row, row]}))
    with pytest.raises(InputError, match=r"question_id 7 \(question 2\): question_id: twice"):
        read_items(tmp_path, "textvqa")
