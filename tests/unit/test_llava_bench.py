import json
from pathlib import Path

import numpy as np
import pytest
from verdicts import values

from mmpref.benchmarks.llava_bench import score as llava_bench
from mmpref.benchmarks.llava_bench.items import items as read_items
from mmpref.errors import InputError
from mmpref.records.items import Item
from mmpref.scoring.judge import Reply
from mmpref.scoring.resources import Resources

DATA = Path(__file__).parents[2].parent / "shared" / "benchmarks" / "llava_bench"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared is not there")

# The files of the version in the wild are not in ../shared; these have their form.
WILD = {
    "questions.jsonl": [
        {"image": "001.jpg", "text": "What is this?", "category": "conv", "question_id": 0},
        {"image": "001.jpg", "text": "Describe it.", "category": "detail", "question_id": 1},
        {"image": "002.jpg", "text": "Why is it so?", "category": "complex", "question_id": 2},
    ],
    "context.jsonl": [
        {"id": "001", "image": "001.jpg", "caption": "A hill by the sea."},
        {"id": "002", "image": "002.jpg", "caption": ["A dog.", "It sleeps."]},
    ],
    "answers_gpt4.jsonl": [
        {"question_id": id, "prompt": "?", "answer_id": f"x{id}", "model_id": "gpt-4", "text": text}
        for id, text in ((2, "Because."), (0, "A hill."), (1, "A green hill."))
    ],
    "rule.json": {
        f"{prefix}{name}": {"role": "Assistant", "prompt": f"Compare them ({prefix}{name})."}
        for prefix in ("", "llava_bench_")
        for name in ("conv", "detail", "complex")
    },
}


def write(folder: Path, files: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        lines = [content] if name.endswith(".json") else content
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def item(category="conv", id="0") -> Item:
    truth = {
        "kind": "llava-bench",
        "image": "001.jpg",
        "version": "in-the-wild",
        "category": category,
        "question": "What is this?",
        "context": "A hill by the sea.",
        "reference": "A hill.",
    }
    return Item(id, (), "What is this?", truth)


def replies(*runs: str | None) -> Resources:
    """Return resources in which judge run 0, 1, ... said this of item 0; None is an error."""
    given = [
        Reply("0", run, 0, "", "judge", text, None if text is not None else "HTTP 500")
        for run, text in enumerate(runs)
    ]
    return Resources(judge=True, judge_runs=len(runs), replies={"0": given})


FAILED = (-1.0, -1.0)


@pytest.mark.parametrize(
    ("text", "official", "strict"),
    [
        ("8 7\nThe first is better.", (8, 7), (8, 7)),
        ("8.5 7", (8.5, 7), (8.5, 7)),
        ("8,7", (8, 7), (8, 7)),
        ("10 1", (10, 1), (10, 1)),
        # Only the strict reading understands these.
        ("8, 7", FAILED, (8, 7)),
        ("8  7", FAILED, (8, 7)),
        ("8 7 ", FAILED, (8, 7)),
        ("\n8 7\n", FAILED, (8, 7)),
        ("8\t7", FAILED, (8, 7)),
        ("**8** **7**", FAILED, (8, 7)),
        ("8/10 7/10", FAILED, (8, 7)),
        ("(8, 7)", FAILED, (8, 7)),
        ("8 and 7", FAILED, (8, 7)),
        ("Assistant 1: 8, Assistant 2: 7.", FAILED, (8, 7)),
        # Only the official one takes numbers off the scale.
        ("0 5", (0, 5), None),
        ("85 90", (85, 90), None),
        ("-1 -1", (-1, -1), None),
        ("8 11", (8, 11), None),
        # Neither.
        ("8", FAILED, None),
        ("8.5", FAILED, None),
        ("8/10", FAILED, None),
        ("8 7 6", FAILED, None),
        ("Scores: 8 7", FAILED, None),
        ("Assistant 1 is better.\n8 7", FAILED, None),
        ("eight seven", FAILED, None),
        ("nan 7", FAILED, None),
        ("inf 7", FAILED, None),
        ("", FAILED, None),
    ],
)
def test_scores(text, official, strict):
    assert llava_bench.official_scores(text) == official
    assert llava_bench.parse(text) == strict
    assert llava_bench.usable(text) == (strict is not None)


def test_metrics_by_hand():
    said = ["8 7", "9 9", "8, 6", "Both are fine.", None, "9 7"]
    categories = ["conv", "conv", "detail", "detail", "detail", "complex"]
    rows = [
        llava_bench.verdict(item(category), "x", replies(text))
        for category, text in zip(categories, said, strict=True)
    ]
    # Official pairs: 8 7, 9 9, -1 -1, -1 -1, none, 9 7; strict: 8 7, 9 9, 8 6, none, none, 9 7.
    assert values(llava_bench, rows) == pytest.approx(
        {
            "official/score": round(4.2 / 4.8 * 100, 1),
            "official/reference": 48.0,
            "official/model": 42.0,
            "official/conv/score": round(8 / 8.5 * 100, 1),
            "official/conv/reference": 85.0,
            "official/conv/model": 80.0,
            "official/detail/score": 100.0,
            "official/detail/reference": -10.0,
            "official/detail/model": -10.0,
            "official/complex/score": 77.8,
            "official/complex/reference": 90.0,
            "official/complex/model": 70.0,
            "strict/score": 29 / 34 * 100,
            "strict/reference": 85,
            "strict/model": 72.5,
            "strict/conv/score": 16 / 17 * 100,
            "strict/conv/reference": 85,
            "strict/conv/model": 80,
            "strict/detail/score": 75,
            "strict/detail/reference": 80,
            "strict/detail/model": 60,
            "strict/complex/score": 7 / 9 * 100,
            "strict/complex/reference": 90,
            "strict/complex/model": 70,
        }
    )
    assert [row["unparsed"] for row in rows] == [0, 0, 0, 1, 1, 0]
    assert [row["judge_failures"] for row in rows] == [0, 0, 0, 1, 1, 0]
    assert [row["differs"] for row in rows] == [0, 0, 1, 1, 0, 0]
    assert [row["flawed"] for row in rows] == [True, False, True, False, False, True]


def test_official_means_are_rounded_before_the_ratio():
    rows = [llava_bench.verdict(item(), "x", replies(text)) for text in ("2 1", "2 1", "2 2")]
    found = values(llava_bench, rows)
    assert round(4 / 6 * 100, 1) == 66.7
    assert found["official/score"] == 66.6 == round(1.333 / 2.0 * 100, 1)
    assert found["strict/score"] == pytest.approx(4 / 6 * 100)


def test_several_judge_runs():
    rows = [
        llava_bench.verdict(item(), "x", replies("8 4", "8 8", "no")),
        llava_bench.verdict(item(), "x", replies("8 4", "10 5", "10 5")),
    ]
    found = values(llava_bench, rows)
    official = [50, round(6.5 / 9 * 100, 9), 2 / 4.5 * 100]
    assert found["official/score"] == round(sum(official) / 3, 1)
    assert found["official/score_deviation"] == round(float(np.std(official)), 1)
    strict = [50, 13 / 18 * 100, 50]
    assert found["strict/score"] == pytest.approx(np.mean(strict))
    assert found["strict/score_deviation"] == pytest.approx(np.std(strict))
    assert [row["judge_failures"] for row in rows] == [1, 0]


def test_nothing_judged_is_undefined_not_zero():
    found = values(llava_bench, [llava_bench.verdict(item(), "x", replies(None))])
    assert np.isnan(list(found.values())).all()


def test_items_in_the_wild(tmp_path):
    items = read_items(write(tmp_path, WILD), version="in-the-wild")
    assert [item.id for item in items] == ["0", "1", "2"]
    assert items[2].truth == {
        "kind": "llava-bench",
        "image": "002.jpg",
        "version": "in-the-wild",
        "category": "complex",
        "question": "Why is it so?",
        "context": "A dog.\nIt sleeps.",
        "reference": "Because.",
    }


def test_prompt_in_the_wild(tmp_path):
    resources = Resources(folder=write(tmp_path, WILD), judge_runs=2)
    first, second = llava_bench.calls(item(), "A {mountain}.", resources)
    system, user = first.messages
    assert (first.run, second.run, first.temperatures, first.max_tokens) == (0, 1, (0.2,), 1024)
    assert (system["role"], user["role"]) == ("system", "user")
    assert len(system["content"].split()) > 5
    assert user["content"] == (
        "[Context]\nA hill by the sea.\n\n"
        "[Question]\nWhat is this?\n\n"
        "[Assistant 1]\nA hill.\n\n[End of Assistant 1]\n\n"
        "[Assistant 2]\nA {mountain}.\n\n[End of Assistant 2]\n\n"
        "[System]\nCompare them (llava_bench_conv).\n\n"
    )


def test_without_the_rules_no_prompt():
    with pytest.raises(InputError, match=r"rule\.json"):
        llava_bench.calls(item(), "x", Resources())


@needs_data
@pytest.mark.parametrize("folder", [DATA, DATA / "coco"])
def test_coco_data(folder):
    items = read_items(folder, version="coco")
    assert len({item.id for item in items}) == len(items) == 90
    assert {
        name: sum(i.truth["category"] == name for i in items) for name in ("conv", "detail")
    } == {
        "conv": 30,
        "detail": 30,
    }
    assert len({item.truth["image"] for item in items}) == 30
    first = items[0]
    assert first.truth["image"] == "COCO_val2014_000000441147.jpg"
    assert first.truth["context"].endswith(
        "leather and stacked on top of each other\n\n"
        "suitcase: [0.167, 0.025, 0.989, 0.445]\nsuitcase: [0.002, 0.31, 0.994, 0.996]"
    )
    (call,) = llava_bench.calls(first, "They are red.", Resources(folder=folder))
    rule = json.loads((DATA / "coco" / "rule.json").read_text())["conv"]["prompt"]
    text = call.messages[1]["content"]
    assert text.endswith(f"[System]\n{rule}\n\n")
    assert "[Assistant 2]\nThey are red.\n\n[End of Assistant 2]" in text
    assert all(llava_bench.calls(item, "x", Resources(folder=folder)) for item in items)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"answers_gpt4.jsonl": []}, r"questions.jsonl: row 1: question_id: .* no answer to 0"),
        ({"context.jsonl": []}, r"row 1: image: context.jsonl does not describe 001.jpg"),
        ({"questions.jsonl": []}, "has no question"),
        ({"questions.jsonl": [WILD["questions.jsonl"][0]] * 2}, "row 2: question_id: 0 twice"),
        (
            {"questions.jsonl": [WILD["questions.jsonl"][0] | {"category": "math"}]},
            "category is 'math'",
        ),
        ({"questions.jsonl": [{"text": "?"}]}, "row 1: question_id is None"),
        ({"context.jsonl": [{"image": "001.jpg"}]}, "row 1: caption is None"),
        ({"rule.json": {"conv": {"role": "a", "prompt": "b"}}}, "llava_bench_conv: role is None"),
        ({"answers_gpt4.jsonl": ["x"]}, "row 1: question_id is None"),
    ],
)
def test_foreign_data_is_refused(tmp_path, changes, problem):
    with pytest.raises(InputError, match=problem):
        read_items(write(tmp_path, WILD | changes), version="in-the-wild")


def test_missing_file_and_unknown_version_are_refused(tmp_path):
    write(tmp_path, WILD)
    (tmp_path / "rule.json").unlink()
    with pytest.raises(InputError, match=r"rule.json: cannot be read"):
        read_items(tmp_path, version="in-the-wild")
    with pytest.raises(InputError, match="version 'wild'"):
        read_items(tmp_path, version="wild")
