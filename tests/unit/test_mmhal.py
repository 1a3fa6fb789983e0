import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from verdicts import values

from mmpref.benchmarks.mmhal import score as mmhal
from mmpref.benchmarks.mmhal.items import TYPES
from mmpref.benchmarks.mmhal.items import items as read_items
from mmpref.errors import InputError
from mmpref.records.items import Item
from mmpref.scoring.judge import Reply
from mmpref.scoring.resources import Resources

DATA = Path(__file__).parents[2].parent / "shared" / "benchmarks" / "mmhal"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared is not there")


def item(id="a", type="attribute", **truth) -> Item:
    facts = {
        "kind": "mmhal",
        "image": f"{id}.jpg",
        "type": type,
        "topic": "outdoor",
        "image_content": ["Door", "Building"],
        "question": "Who sits on the bench?",
        "reference": "No one sits {there}.",
    }
    return Item(id, (), "Who sits on the bench? Answer shortly.", facts | truth)


def replies(*runs: str | None, id="a") -> Resources:
    """Return resources in which judge run 0, 1, ... said this; None is an error."""
    given = [
        Reply(id, run, 0, "", "judge", text, None if text is not None else "HTTP 500")
        for run, text in enumerate(runs)
    ]
    return Resources(judge=True, judge_runs=len(runs), replies={id: given})


@pytest.mark.parametrize(
    ("text", "official", "strict"),
    [
        ("It is right.\nRating: 5", 5, 5),
        ("RATING: 5, very informative, no hallucination", 5, 5),
        ("- Rating: 0, not informative, with hallucination", 0, 0),
        ("Rating: 6\n\nSo again: rating: 6", 6, 6),
        ("Rating: 3 - not informative", 3, 3),
        ("Rating: 4\n- 2 dogs are there", 4, 4),
        # Only the strict reading understands these.
        ("**Rating**: 5", 0, 5),
        ("**Rating:** 5", 0, 5),
        ("Rating:5", 0, 5),
        ("Rating:  5", 0, 5),
        ("### Rating\n4", 0, 4),
        ("Rating (0-6): 2", 0, 2),
        ("Rating = [[6]]", 0, 6),
        ("Rating: **1**", 0, 1),
        # Both do, though more follows.
        ("Rating: 5/6", 5, 5),
        ("Rating: 5 out of 6.", 5, 5),
        # The official one reads a digit where there is another number.
        ("Rating: 10", 1, None),
        ("Rating: 7", 0, None),
        ("Rating: -1", 0, None),
        ("Rating: 4.5", 4, None),
        ("Rating: 5/10", 5, None),
        ("Rating: 0-6", 0, None),
        ("Rating: 2 or 3", 2, None),
        # Ratings that contradict each other, or none.
        ("Rating: 6 would need more; Rating: 3", 0, None),
        ("Rating: 6\n**Rating**: 3", 6, None),
        ("I would give it a 5.", 0, None),
        ("Ratings: 5", 0, None),
        ("", 0, None),
    ],
)
def test_ratings(text, official, strict):
    assert mmhal.official_rating(text) == official
    assert mmhal.parse(text) == strict
    assert mmhal.usable(text) == (strict is not None)


def test_metrics_by_hand():
    said = ["Rating: 5", "Rating: 2", "**Rating**: 4", "I cannot say", None, "Rating: 6"]
    types = ["attribute", "attribute", "other", "other", "other", "holistic"]
    rows = [
        mmhal.verdict(item(type=type), "x", replies(text))
        for type, text in zip(types, said, strict=True)
    ]
    # Official: 5, 2, 0, 0, not there, 6; strict: 5, 2, 4, -, -, 6.
    found = values(mmhal, rows)
    assert found == pytest.approx(
        {
            "official/score": 2.6,  # 13 / 5
            "official/hallucination_rate": 0.6,  # 3 / 5
            "official/informativeness": 46.67,  # (2 + 2 + 0 + 0 + 3) / 5 / 3
            "official/attribute/score": 3.5,
            "official/holistic/score": 6,
            "official/other/score": 0,
            "strict/score": 17 / 4,
            "strict/hallucination_rate": 1 / 4,
            "strict/informativeness": (2 + 2 + 1 + 3) / 4 / 3 * 100,
            "strict/attribute/score": 3.5,
            "strict/holistic/score": 6,
            "strict/other/score": 4,
        }
    )
    assert [row["unparsed"] for row in rows] == [0, 0, 0, 1, 1, 0]
    assert [row["judge_failures"] for row in rows] == [0, 0, 0, 1, 1, 0]
    assert [row["differs"] for row in rows] == [0, 0, 1, 1, 0, 0]
    assert [row["flawed"] for row in rows] == [False, True, False, False, False, False]


@pytest.mark.parametrize(
    ("ratings", "printed"),
    [([0] * 77 + [1] * 3, 0.04), ([2] * 63 + [1], 1.98), ([1, 1, 1, 1, 1, 1, 1, 2], 1.12)],
)
def test_official_score_is_rounded_as_python_prints_it(ratings, printed):
    rows = [mmhal.verdict(item(), "x", replies(f"Rating: {rating}")) for rating in ratings]
    assert values(mmhal, rows)["official/score"] == printed
    assert float(f"{sum(ratings) / len(ratings):.2f}") == printed


def test_several_judge_runs():
    rows = [
        mmhal.verdict(item(), "x", replies("Rating: 6", "Rating: 4", "no")),
        mmhal.verdict(item(), "x", replies("Rating: 3", "Rating: 2", "Rating: 3")),
    ]
    found = values(mmhal, rows)
    # Official runs: 9/2, 6/2, 3/2; strict: 9/2, 6/2, 3.
    assert found["official/score"] == 3
    assert found["official/score_deviation"] == round(float(np.std([4.5, 3, 1.5])), 2)
    assert found["strict/score"] == pytest.approx((4.5 + 3 + 3) / 3)
    assert found["strict/score_deviation"] == pytest.approx(np.std([4.5, 3, 3]))
    assert found["strict/hallucination_rate"] == pytest.approx((0 + 0.5 + 0) / 3)
    assert [row["judge_failures"] for row in rows] == [1, 0]
    assert [row["unparsed"] for row in rows] == [0, 0]


def test_a_run_that_failed_whole_leaves_the_others():
    rows = [mmhal.verdict(item(), "x", replies("Rating: 6", None)) for _ in range(3)]
    found = values(mmhal, rows)
    assert found["official/score"] == found["strict/score"] == 6
    assert found["strict/score_deviation"] == 0


def test_nothing_judged_is_undefined_not_zero():
    found = values(mmhal, [mmhal.verdict(item(), "x", replies(None))])
    assert np.isnan(list(found.values())).all()


def test_metrics_take_arrays_of_any_shape():
    rows = [mmhal.verdict(item(), "x", replies("Rating: 5", "Rating: 4"))]
    table = pd.DataFrame(rows).select_dtypes("number")
    sums = {name: np.full((2, 3), float(table[name].iloc[0])) for name in table}
    for name, metric in mmhal.metrics(set(table.columns)).items():
        assert metric.compute(sums).shape == (2, 3), name


def test_note_shows_both_readings_and_what_was_not_understood():
    row = mmhal.verdict(item(), "x", replies("**Rating**: 5", "no idea"))
    assert (
        row["note"]
        == "judged 5 of 6, nothing (official: 0 of 6, 0 of 6); not understood: 'no idea'"
    )


def test_prompt_has_all_that_the_judge_needs():
    first, second = mmhal.calls(item(), "A man {sits} there.", replies(None, None))
    assert (first.item, first.run, second.run, first.temperatures) == ("a", 0, 1, (0.0,))
    (message,) = first.messages
    places = [
        message["content"].rindex(part)
        for part in ("Door, Building", "Who sits on the bench?", "No one sits {there}.", "{sits}")
    ]
    assert places == sorted(places)
    assert "Answer shortly" not in message["content"]
    assert mmhal.verdict(item(), "x", replies(None))["judge_prompt"] == "mmpref"


def test_our_prompt_has_no_rating_that_a_parser_would_find():
    (call,) = mmhal.calls(item(), "x", replies(None))
    assert not mmhal.usable(call.messages[0]["content"])
    assert "rating: " not in call.messages[0]["content"].lower()


@pytest.mark.parametrize("name", ["eval_gpt4.py", "eval_gpt_mmhal.py"])
def test_official_prompt_is_taken_and_never_run(tmp_path, name):
    script = "template = '''In: {}; asked {}; person {}; {}'''\nraise SystemExit('ran')\n"
    (tmp_path / name).write_text(script)
    resources = Resources(folder=tmp_path, judge_runs=1)
    (call,) = mmhal.calls(item(), "A.", resources)
    filled = "In: Door, Building; asked Who sits on the bench?; person No one sits {there}.; A."
    assert call.messages == [{"role": "user", "content": filled}]
    assert mmhal.verdict(item(), "A.", resources)["judge_prompt"] == "official"


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("text = 'x'", "sets no string template"),
        ("template = f'{1}'", "sets no string template"),
        ("template = 'x {} {}'", "has 2 places"),
        ("def", "not Python"),
    ],
)
def test_a_foreign_prompt_file_is_refused(tmp_path, script, problem):
    (tmp_path / "eval_gpt4.py").write_text(script)
    with pytest.raises(InputError, match=problem):
        mmhal.calls(item(), "x", Resources(folder=tmp_path))


def test_image_judge_sees_the_image(tmp_path):
    buffer = BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(buffer.getvalue())
    seen = Item("a", (path,), "Who?", item(image_judge=True).truth)
    (call,) = mmhal.calls(seen, "A man.", Resources())
    text, image = call.messages[0]["content"]
    (blind,) = mmhal.calls(item(), "A man.", Resources())
    assert text == {"type": "text", "text": blind.messages[0]["content"]}
    assert image["image_url"]["url"].startswith("data:image/png;base64,")


def test_image_judge_without_image_is_refused():
    with pytest.raises(InputError, match="item 'a': images: none"):
        mmhal.calls(item(image_judge=True), "A man.", Resources())


@needs_data
def test_official_data():
    items = read_items(DATA)
    assert len({item.id for item in items}) == len(items) == 96
    # The official script takes the type from the row.
    assert [item.truth["type"] for item in items] == list(TYPES) * 12
    assert items[1].truth == {
        "kind": "mmhal",
        "image": "7413067568_06a8d1eb64_o.jpg",
        "type": "adversarial",
        "topic": "outdoor",
        "image_content": ["Door", "Building"],
        "question": "Who is sitting on the bench?",
        "reference": "No one is sitting on the bench.",
    }
    assert "image_judge" not in items[0].truth
    assert all(item.truth["image_judge"] for item in read_items(DATA, image_judge=True))
    assert all(mmhal.calls(item, "An answer.", Resources()) for item in items)


ROW = {
    "question_type": "attribute",
    "question_topic": "outdoor",
    "image_id": "df62",
    "image_content": ["Fire hydrant"],
    "question": "What color is it?",
    "gt_answer": "Yellow.",
}


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([ROW, ROW], "row 2: image_id: 'df62' twice"),
        ([ROW | {"question": ""}], "row 1: question is '', not a text"),
        ([ROW | {"image_content": "Dog"}], "row 1: image_content is 'Dog'"),
        ([ROW | {"question_type": "colour"}], "row 1: question_type is 'colour'"),
        (["x"], "row 1: image_id is None"),
        ([], "not a list of questions"),
        ({}, "not a list of questions"),
    ],
)
def test_foreign_data_is_refused(tmp_path, rows, problem):
    (tmp_path / "mmhal-bench_answer_template.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match=problem):
        read_items(tmp_path)


def test_missing_and_broken_data_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"answer_template\.json: cannot be read"):
        read_items(tmp_path)
    (tmp_path / "mmhal-bench_answer_template.json").write_text("[")
    with pytest.raises(InputError, match="not JSON"):
        read_items(tmp_path)
