import json
import random
from typing import Any

import numpy as np
import pytest
from verdicts import values

from mmpref.benchmarks.mm_vet import score as mm_vet
from mmpref.benchmarks.mm_vet.items import items as read_items
from mmpref.errors import InputError
from mmpref.records.items import Item
from mmpref.scoring.judge import Reply
from mmpref.scoring.resources import Resources

# The file is not in ../shared; this has its form.
DATA = {
    "v1_0": {
        "imagename": "v1_0.png",
        "question": "What is x?",
        "answer": "-1<AND>-5",
        "imagesource": "https://example.org/0",
        "capability": ["ocr", "math"],
    },
    "v1_64": {
        "imagename": "v1_64.jpg",
        "question": "Who is it?",
        "answer": "Ann<OR>Anne",
        "imagesource": "https://example.org/1",
        "capability": ["rec"],
    },
}


def item(*capability: str) -> Item:
    truth = {
        "kind": "mm-vet",
        "image": "v1_0.png",
        "capability": list(capability),
        "question": "What is x?",
        "reference": "-1<AND>-5",
    }
    return Item("v1_0", (), "What is x? Be short.", truth)


def replies(*runs: str | list[str | None] | None) -> Resources:
    """Return resources in which judge run 0, 1, ... said this, in one or several attempts."""
    given = [
        Reply("v1_0", run, attempt, "", "judge", text, None if text is not None else "HTTP 500")
        for run, texts in enumerate(runs)
        for attempt, text in enumerate(texts if isinstance(texts, list) else [texts])
    ]
    return Resources(judge=True, judge_runs=len(runs), replies={"v1_0": given})


@pytest.mark.parametrize(
    ("text", "official", "strict"),
    [
        ("0.5", 0.5, 0.5),
        ("1.0", 1, 1),
        ("0", 0, 0),
        ("1", 1, 1),
        (".5", 0.5, 0.5),
        ("0.5\n", 0.5, 0.5),
        ("0.5 because", 0.5, 0.5),
        ("0.25", 0.25, 0.25),
        ("1.", 1, 1),
        # Only the strict reading understands these.
        (" 0.5", None, 0.5),
        ("0.5\nThe", None, 0.5),
        ("**0.5", None, 0.5),
        ("0.5.", None, 0.5),
        # Only the official one takes these.
        ("5e-1", 0.5, None),
        # Neither.
        ("10", None, None),
        ("1.1", None, None),
        ("-0.5", None, None),
        ("50%", None, None),
        ("1/2", None, None),
        ("0.5-0.6", None, None),
        ("The score", None, None),
        ("nan", None, None),
        ("", None, None),
    ],
)
def test_scores(text, official, strict):
    assert mm_vet.official_score(text) == official
    assert mm_vet.parse(text) == strict
    # It is asked again when the evaluator asks again.
    assert mm_vet.usable(text) == (official is not None)


def test_metrics_by_hand():
    said: list[Any] = [
        "0.3",
        "1.0",
        " 0.7",
        ["The", "score", "is", "not", "said"],
        None,
        ["Hm", "0.9"],
    ]
    rows = [
        mm_vet.verdict(item(*capability), "x", replies(texts))
        for capability, texts in zip(
            [("rec",), ("rec", "ocr"), ("ocr",), ("math", "ocr"), ("rec",), ("spat", "gen")],
            said,
            strict=True,
        )
    ]
    # Official: 0.3, 1, 0, 0, not there, 0.9; strict: 0.3, 1, 0.7, -, -, 0.9.
    assert values(mm_vet, rows) == pytest.approx(
        {
            "official/score": 44.0,
            "official/rec/score": 65.0,
            "official/ocr/score": 33.3,
            "official/math/score": 0,
            "official/spat/score": 90,
            "official/gen/score": 90,
            "strict/score": 2.9 / 4 * 100,
            "strict/rec/score": 65,
            "strict/ocr/score": 85,
            "strict/math/score": np.nan,
            "strict/spat/score": 90,
            "strict/gen/score": 90,
        },
        nan_ok=True,
    )
    assert [row["unparsed"] for row in rows] == [0, 0, 0, 1, 1, 0]
    assert [row["judge_failures"] for row in rows] == [0, 0, 0, 1, 1, 0]
    assert [row["differs"] for row in rows] == [0, 0, 1, 1, 0, 0]
    assert [row["flawed"] for row in rows] == [True, False, False, False, False, False]


def test_an_error_is_no_zero_even_after_a_useless_reply():
    row = mm_vet.verdict(item("rec"), "x", replies(["The", None]))
    assert np.isnan(values(mm_vet, [row])["official/score"])
    assert row["unparsed"] == 1
    assert row["differs"] == 0


def test_deviation_over_five_runs():
    first = mm_vet.verdict(item("rec"), "x", replies("1.0", "0.9", "1.0", "0.8", "no"))
    second = mm_vet.verdict(item("ocr"), "x", replies("0.5", "0.5", "0.4", "0.5", "0.5"))
    found = values(mm_vet, [first, second])
    official = [75, 70, 70, 65, 25]
    assert found["official/score"] == np.mean(official) == 61
    assert found["official/score_deviation"] == round(np.std(official), 1) == 18.3
    assert found["official/rec/score"] == 74
    strict = [75, 70, 70, 65, 50]
    assert found["strict/score"] == pytest.approx(np.mean(strict))
    assert found["strict/score_deviation"] == pytest.approx(np.std(strict))
    assert found["strict/rec/score"] == pytest.approx((100 + 90 + 100 + 80) / 4)
    assert first["judge_failures"] == 1
    assert not [name for name in found if name.endswith("rec/score_deviation")]


def test_one_run_has_no_deviation():
    assert "official/score_deviation" not in values(
        mm_vet, [mm_vet.verdict(item(), "x", replies("1"))]
    )


def test_official_numbers_equal_the_evaluators_to_the_last_digit():
    # As the evaluator adds up: in floating point, item after item; gen has many halves to round.
    draw = random.Random(1)
    for _ in range(20):
        scores = [[round(draw.randrange(11) / 10, 1) for _ in range(80)] for _ in range(5)]
        rows = [
            mm_vet.verdict(item("gen"), "x", replies(*map(str, of_item)))
            for of_item in zip(*scores, strict=True)
        ]
        per_run = []
        for of_run in scores:
            total = 0.0
            for score in of_run:
                total += score
            per_run.append(total)
        percent = np.array(per_run) / 80 * 100
        found = values(mm_vet, rows)
        assert found["official/score"] == found["official/gen/score"] == round(percent.mean(), 1)
        assert found["official/score_deviation"] == round(percent.std(), 1)


def test_items(tmp_path):
    (tmp_path / "mm-vet.json").write_text(json.dumps(DATA))
    items = read_items(tmp_path)
    assert [item.id for item in items] == ["v1_0", "v1_64"]
    assert items[0].prompt == "What is x?"
    assert items[0].truth == {
        "kind": "mm-vet",
        "image": "v1_0.png",
        "capability": ["ocr", "math"],
        "question": "What is x?",
        "reference": "-1<AND>-5",
    }


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (
            {"v1_0": DATA["v1_0"] | {"capability": ["ocr", "seq"]}},
            "v1_0: capability: seq is not one",
        ),
        ({"v1_0": DATA["v1_0"] | {"capability": []}}, "v1_0: capability is"),
        ({"v1_0": DATA["v1_0"] | {"answer": 5}}, "v1_0: answer is 5, not a text"),
        ({"v1_0": "x"}, "v1_0: capability is None"),
        ([DATA["v1_0"]], "is not an object of questions"),
        ({}, "is not an object of questions"),
    ],
)
def test_foreign_data_is_refused(tmp_path, data, problem):
    (tmp_path / "mm-vet.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=problem):
        read_items(tmp_path)


def test_missing_data_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"mm-vet.json: cannot be read"):
        read_items(tmp_path)


def test_prompt_ends_with_the_row_to_complete():
    calls = mm_vet.calls(item("math"), "x = -1", replies("", ""))
    assert [call.run for call in calls] == [0, 1]
    assert calls[0].max_tokens == 3
    assert calls[0].temperatures == (0.0, 0.0, 0.5, 1.0, 1.5)
    (message,) = calls[0].messages
    assert message["content"].endswith("\nWhat is x? | -1 <AND> -5 | x = -1 | ")
    assert mm_vet.verdict(item("math"), "x", replies("1"))["judge_prompt"] == "mmpref"


SCRIPT = 'import openai\n\nprompt = """Official table\n"""\n\nraise SystemExit("ran")\n'


def notebook(source: str) -> str:
    cells = [
        {"cell_type": "markdown", "source": ["# not *Python"]},
        {"cell_type": "code", "source": source.splitlines(keepends=True)},
    ]
    return json.dumps({"cells": cells})


@pytest.mark.parametrize(
    ("name", "content"),
    [("mm-vet_evaluator.py", SCRIPT), ("mm-vet_evaluator.ipynb", notebook(SCRIPT))],
)
def test_official_prompt_is_taken_and_never_run(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    resources = Resources(folder=tmp_path)
    (call,) = mm_vet.calls(item("math"), "x = -1", resources)
    text = "Official table\n\nWhat is x? | -1 <AND> -5 | x = -1 | "
    assert call.messages == [{"role": "user", "content": text}]
    assert mm_vet.verdict(item("math"), "x", resources)["judge_prompt"] == "official"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("mm-vet_evaluator.py", "text = 1", "sets no string prompt"),
        ("mm-vet_evaluator.ipynb", "{}", "not Python"),
        ("mm-vet_evaluator.ipynb", notebook("!ls"), "not Python"),
    ],
)
def test_a_foreign_prompt_file_is_refused(tmp_path, name, content, problem):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=problem):
        mm_vet.calls(item("math"), "x", Resources(folder=tmp_path))
