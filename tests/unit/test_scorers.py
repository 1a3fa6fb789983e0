import json
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmpref.benchmarks.yesno.score import parse
from mmpref.errors import InputError
from mmpref.language.mentions import find_mentions
from mmpref.records.items import Item
from mmpref.scoring.verdicts import read_scores, score, write_scores

VOCABULARY = ("dining table", "table", "glass", "wine glass", "dog", "hot dog", "knife", "person",
              "cherry", "bus", "cup", "potato", "sheep")  # fmt: skip


def names(text: str, vocabulary: tuple[str, ...] = VOCABULARY) -> list[str]:
    return [mention.name for mention in find_mentions(text, vocabulary)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog on a dining table.", ["dog", "dining table"]),
        ("Two Dining-Tables and a table", ["dining table", "table"]),
        ("hot dogs, dogs", ["hot dog", "dog"]),
        ("WINE GLASSES\nand glasses", ["wine glass", "glass"]),
        ("Knives, people, cherries", ["knife", "person", "cherry"]),
        ("buses, potatoes", ["bus", "potato"]),
        ("the dog's cup", ["dog", "cup"]),
        ("a cupboard, a cup-shaped doghouse, a tablet, a bulldog", []),
        ("sheep; sheep", ["sheep", "sheep"]),
        ("There is no dog.", ["dog"]),
        ("", []),
    ],
)
def test_mentions(text, expected):
    assert names(text) == expected


def test_a_name_beats_the_plural_of_another():
    assert names("glasses and glass", ("glass", "glasses")) == ["glasses", "glass"]


def test_no_vocabulary_no_mentions():
    assert names("a dog", ()) == []


def test_spans_hold_the_mention_even_behind_letters_whose_lower_case_is_longer():
    text = "İİ ſ DOGS"
    (mention,) = find_mentions(text, VOCABULARY)
    assert text[mention.start : mention.end] == "DOGS"


@given(st.text(), st.sampled_from(VOCABULARY), st.text())
def test_a_name_between_other_text_is_found_where_it_is(before, name, after):
    text = f"{before} {name}, {after}"
    place = (len(before) + 1, len(before) + 1 + len(name))
    spans = [(mention.start, mention.end) for mention in find_mentions(text, VOCABULARY)]
    assert any(start <= place[0] and place[1] <= end for start, end in spans)
    assert all(first[1] <= second[0] for first, second in pairwise(spans))


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Yes", "yes"),
        ("no.", "no"),
        (" **No**, there is none", "no"),
        ("NO!", "no"),
        ("Yes there is a dog", "yes"),
        ("Yes. There is no dog", "yes"),
        ("No\n", "no"),
        ("Nope", None),
        ("There isn't", None),
        ("not at all", None),
        ("yesterday", None),
        ("No-one is there", None),
        ("No idea", None),
        ("yes/no", None),
        ("Yes or no?", None),
        ("The answer is yes", None),
        ("", None),
    ],
)
def test_yes_and_no_are_parsed_never_guessed(response, answer):
    assert parse(response) == answer


def caption(id: str, objects: list[str], likely: list[str], image: bytes = b"") -> Item:
    truth = {"kind": "caption", "objects": objects, "likely": likely, "vocabulary": [*VOCABULARY]}
    return Item(id, (image or id.encode(),), "Describe the image.", truth)


def question(id: str, label: str, setting: str) -> Item:
    truth = {"kind": "yesno", "object": "dog", "label": label, "setting": setting}
    return Item(id, (b"same image",), "Is there a dog?", truth)


def answers(*responses: str) -> list[dict[str, str]]:
    return [{"id": str(number), "response": text} for number, text in enumerate(responses)]


def values(scores) -> dict[str, float]:
    sums = scores.table.select_dtypes("number").sum()
    columns = {name: sums[[name]].to_numpy(float) for name in sums.index}
    return {name: float(metric.compute(columns)[0]) for name, metric in scores.metrics.items()}


def test_caption_metrics_by_hand():
    items = [
        caption("0", ["dog", "cup"], ["table"]),
        caption("1", ["bus"], ["person", "sheep"]),
        caption("2", ["knife"], []),
        caption("3", [], ["dog"]),
    ]
    responses = answers(
        "A dog, two dogs, a table and a bus.",  # 4 mentions, 2 hallucinated, 1 of 2 covered
        "Several people on a bus",  # 2 mentions, 1 hallucinated, 1 of 1 covered
        "",
        "Nothing is here.",
    )
    scores = score(items, responses)
    assert values(scores) == pytest.approx(
        {
            "CHAIRs": 2 / 4,
            "CHAIRi": 3 / 6,
            "Cover": 2 / 4,
            "Cog": 2 / 4,
            "words": (9 + 5 + 0 + 3) / 4,
            "empty": 1 / 4,
        }
    )
    first = scores.table.iloc[0]
    assert [first.response[m["start"] : m["end"]] for m in first.grounded_mentions] == [
        "dog",
        "dogs",
    ]
    assert [m["name"] for m in first.hallucinated_mentions] == ["table", "bus"]


def test_yesno_metrics_by_hand():
    items = [
        question("0", "yes", "random"),
        question("1", "no", "random"),
        question("2", "yes", "adversarial"),
        question("3", "no", "adversarial"),
        question("4", "no", "adversarial"),
    ]
    scores = score(items, answers("Yes.", "No.", "I cannot tell.", "Yes", "No, none."))
    found = values(scores)
    assert {name for name in found if "/" in name} == {
        f"{setting}/{name}"
        for setting in ("random", "adversarial")
        for name in ("accuracy", "precision", "recall", "F1", "yes", "unparsed")
    }
    overall = {name: value for name, value in found.items() if "/" not in name}
    assert overall == pytest.approx(
        {
            "accuracy": 3 / 5,
            "precision": 1 / 2,
            "recall": 1 / 2,
            "F1": 1 / 2,
            "yes": 2 / 5,
            "unparsed": 1 / 5,
        }
    )
    assert found["random/accuracy"] == found["random/F1"] == 1
    assert found["adversarial/accuracy"] == pytest.approx(1 / 3)
    assert found["adversarial/precision"] == found["adversarial/F1"] == 0


def test_precision_without_a_yes_is_undefined_not_zero(tmp_path):
    scores = score([question("0", "no", "random")], answers("No."))
    assert pd.isna(values(scores)["precision"])
    write_scores(tmp_path / "pope.json", tmp_path / "pope.parquet", scores, "pope", seed=0)
    summary = json.loads((tmp_path / "pope.json").read_text())
    assert summary["metrics"]["precision"] is None
    assert summary["intervals"]["precision"] == [None, None]


def test_open_answers_are_measured_in_form_only():
    items = [Item(str(number), (b"photo",), "What is it?", {"kind": "open"}) for number in range(2)]
    found = values(score(items, answers("It isn't a twenty-one.", "")))
    assert found == {"words": 2, "empty": 0.5}


def test_unfinished_answers_are_counted_where_all_say_whether_they_ended():
    items = [caption("0", [], []), caption("1", [], [])]
    first, second = answers("A dog and", "A dog.")
    responses = [{**first, "ended": False}, {**second, "ended": True}]
    assert values(score(items, responses))["unfinished"] == 0.5
    assert "unfinished" not in values(score(items, [responses[0], second]))


def test_questions_about_one_image_share_its_digest():
    table = score([question("0", "yes", "random"), question("1", "no", "random"),],
                  answers("Yes", "No")).table  # fmt: skip
    assert table["image"].nunique() == 1
    assert score([caption("0", [], [])], answers("")).table["image"][0] != table["image"][0]


@pytest.mark.parametrize(
    ("responses", "words"),
    [
        (answers("a"), r"1 items without a response \(1\)"),
        (answers("a", "b", "c"), r"1 responses to items that are not in the benchmark \(2\)"),
        ([*answers("a", "b"), *answers("a")], r"1 items with several responses \(0\)"),
        ([{"id": "0"}], "response 0: response is not text"),
        ([{"id": 7, "response": "a"}], "response 0: id is not text"),
    ],
)
def test_responses_that_do_not_match_are_refused(responses, words):
    with pytest.raises(InputError, match=words):
        score([caption("0", [], []), caption("1", [], [])], responses)


def test_one_benchmark_has_one_kind():
    with pytest.raises(InputError, match=r"2 kinds \(caption, yesno\)"):
        score([caption("0", [], []), question("1", "no", "random")], answers("a", "no"))
    with pytest.raises(InputError, match="it is empty"):
        score([], [])


def test_the_order_of_responses_does_not_matter():
    items = [caption("0", ["dog"], []), caption("1", ["cup"], [])]
    responses = answers("a dog.", "a dog.")
    pd.testing.assert_frame_equal(
        score(items, responses).table, score(items, responses[::-1]).table
    )


def test_scores_survive_the_files(tmp_path):
    scores = score([caption("0", ["dog"], []), caption("1", [], [])], answers("a cup.", "none."))
    write_scores(tmp_path / "c.json", tmp_path / "c.parquet", scores, "captions", seed=3)
    pd.testing.assert_frame_equal(read_scores(tmp_path / "c.parquet").table, scores.table)
    summary = json.loads((tmp_path / "c.json").read_text())
    assert (summary["benchmark"], summary["items"]) == ("captions", 2)
    assert summary["metrics"]["CHAIRs"] == 0.5
    low, high = summary["intervals"]["CHAIRs"]
    assert low <= 0.5 <= high


def test_files_that_are_no_scores_are_refused(tmp_path):
    path = tmp_path / "c.parquet"
    path.write_bytes(b"half a file")
    with pytest.raises(InputError, match="score the run again"):
        read_scores(path)
    pd.DataFrame({"id": ["0"]}).to_parquet(path)
    with pytest.raises(InputError, match="not a table of verdicts"):
        read_scores(path)
