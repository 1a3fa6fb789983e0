import json
import math
from collections import Counter
from pathlib import Path

import pytest
import verdicts

from mmpref.benchmarks.pope import score as pope
from mmpref.benchmarks.pope.items import items as read_items
from mmpref.errors import InputError
from mmpref.records.items import Item
from mmpref.scoring.resources import Resources

SHARED = Path(__file__).parents[2].parent / "shared" / "benchmarks" / "pope"


def question(label: str, setting: str = "random") -> Item:
    truth = {"kind": "pope", "image": "1.jpg", "label": label, "setting": setting, "object": "dog"}
    return Item("1", (), "Is there a dog in the image?", truth)


def judged(item: Item, response: str) -> dict:
    return pope.verdict(item, response, Resources())


def values(answers: list[tuple[Item, str]]) -> dict[str, float]:
    return verdicts.values(pope, [judged(item, response) for item, response in answers])


def times(count: int, label: str, response: str, setting: str = "random"):
    return [(question(label, setting), response)] * count


@pytest.mark.parametrize(
    ("response", "official", "strict"),
    [
        ("Yes", "yes", "yes"),
        ("No", "no", "no"),
        ("no, there is none", "no", "no"),
        ("No, there is", "no", "no"),
        ("No.", "no", "no"),
        ("No,", "no", "no"),
        # As printed in the reference: what evaluate.py takes for yes.
        ("NO", "yes", "no"),
        ("No!", "yes", "no"),
        ("No\n", "yes", "no"),
        ("Nope", "yes", None),
        ("There isn't", "yes", None),
        ("", "yes", None),
        ("I cannot tell", "yes", None),
        ("Yes. There is no dog", "yes", "yes"),
        # And for no.
        ("Yes, but it is not a big one", "no", "yes"),
        ("yes, no doubt", "no", "yes"),
        ("There is no dog", "no", None),
        ("It is not there. Yes", "no", None),
        ("No idea", "no", None),
        ("The dog.No", "yes", None),
        ("There is,no dog", "yes", None),
        (". No", "yes", "no"),
        ("Not at all", "yes", None),
    ],
)
def test_both_readings_of_odd_answers(response, official, strict):
    row = judged(question("no"), response)
    assert pope.official_answer(response) == official
    assert row["official_correct"] == (official == "no")
    assert (row["correct"], row["unparsed"]) == (strict == "no", strict is None)
    assert row["differs"] == (official != strict)
    assert row["flawed"] is (strict != "no")
    assert (f"official: {official}" in row["note"]) == (official != strict)


def test_one_setting_by_hand():
    found = values(
        times(4, "yes", "Yes, there is.")  # TP
        + times(2, "yes", "No.")  # FN
        + times(1, "no", "yes")  # FP
        + times(1, "no", "no")  # TN
        + times(1, "no", "NO")  # official FP, strict TN
        + times(1, "yes", "I see one.")  # official TP, strict neither
    )
    assert {name.count("/") for name in found} == {1}
    official = {"TP": 5, "FP": 2, "TN": 1, "FN": 2, "accuracy": 6 / 10, "precision": 5 / 7,
                "recall": 5 / 7, "F1": 5 / 7, "yes_ratio": 7 / 10}  # fmt: skip
    strict = {"TP": 4, "FP": 1, "TN": 2, "FN": 3, "accuracy": 6 / 10, "precision": 4 / 5,
              "recall": 4 / 7, "F1": 8 / 12, "yes_ratio": 5 / 10, "unparsed": 1 / 10}  # fmt: skip
    assert found == pytest.approx(
        {
            **{f"official/{name}": value for name, value in official.items()},
            **{f"strict/{name}": value for name, value in strict.items()},
        }
    )


def test_the_official_fractions_are_those_of_evaluate_py_to_the_last_digit():
    true, false, missed, right = 1311, 77, 189, 1423
    found = values(
        times(true, "yes", "Yes")
        + times(false, "no", "Yes")
        + times(missed, "yes", "No")
        + times(right, "no", "No")
    )
    precision, recall = true / (true + false), true / (true + missed)
    assert found["official/F1"] == 2 * precision * recall / (precision + recall)
    assert found["official/precision"] == precision
    assert found["official/accuracy"] == (true + right) / 3000


def test_without_a_yes_precision_is_undefined_where_evaluate_py_dies():
    found = values(times(1, "yes", "No") + times(2, "no", "No"))
    for reading in ("official", "strict"):
        assert found[f"{reading}/accuracy"] == pytest.approx(2 / 3)
        assert found[f"{reading}/recall"] == found[f"{reading}/yes_ratio"] == 0
        assert math.isnan(found[f"{reading}/precision"])
    assert math.isnan(found["official/F1"])


def test_without_a_true_yes_only_the_official_f1_is_undefined():
    found = values(times(1, "yes", "No") + times(2, "no", "Yes"))
    assert found["official/precision"] == found["strict/F1"] == 0
    assert math.isnan(found["official/F1"])


def test_settings_are_parts_and_every_way_to_sum_them_up_has_a_name():
    found = values(
        times(3, "yes", "Yes", "random")
        + times(1, "no", "No", "random")
        + times(1, "yes", "Yes", "popular")
        + times(1, "no", "Yes", "popular")
        + times(1, "yes", "No", "adversarial")
        + times(2, "yes", "Yes", "adversarial")
        + times(3, "no", "Yes", "adversarial")
    )
    # TP, FP, FN, TN: (3, 0, 0, 1), (1, 1, 0, 0), (2, 3, 1, 0); pooled (6, 4, 1, 1).
    f1, accuracy = (1, 2 / 3, 4 / 8), (1, 1 / 2, 2 / 6)
    settings = ("random", "popular", "adversarial")
    for reading in ("official", "strict"):
        assert [found[f"{reading}/{name}/F1"] for name in settings] == pytest.approx(f1)
        assert [found[f"{reading}/{name}/accuracy"] for name in settings] == pytest.approx(accuracy)
        assert found[f"{reading}/mean/F1"] == pytest.approx(sum(f1) / 3)
        assert found[f"{reading}/mean/accuracy"] == pytest.approx(sum(accuracy) / 3)
        assert found[f"{reading}/pooled/F1"] == pytest.approx(12 / 17)
        assert found[f"{reading}/pooled/accuracy"] == pytest.approx(7 / 12)
    assert found["official/adversarial/FP"] == 3
    assert {name for name in found if name.count("/") == 1} == set()


def test_the_old_random_file_can_be_summed_up_with_the_other_settings():
    found = values(times(1, "yes", "Yes", "random-2910") + times(1, "yes", "No", "popular"))
    assert found["official/mean/accuracy"] == 0.5
    assert found["official/random-2910/accuracy"] == 1


def rows(count: int, yes: int) -> list[dict]:
    return [
        {
            "question_id": number,
            "image": f"{number // 6}.jpg",
            "text": "Is there an apple in the image?",
            "label": "yes" if number < yes else "no",
        }
        for number in range(count)
    ]


def write(path: Path, content: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


def test_a_file_of_ones_own_is_read_where_it_lies(tmp_path):
    write(tmp_path / "coco_pope_random.json", rows(2, 1))
    first, second = read_items(tmp_path, settings=("random",))
    assert (first.id, first.prompt) == ("0", "Is there an apple in the image?")
    assert first.truth == {"kind": "pope", "image": "0.jpg", "label": "yes", "setting": "random",
                           "object": "apple"}  # fmt: skip
    assert second.truth["label"] == "no"
    path = tmp_path / "seem" / "gqa" / "gqa_pope_seem_popular.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(rows(3, 1), indent=4))
    assert len(read_items(tmp_path, "gqa", ("popular",))) == 3


def test_the_versions_of_the_random_file_are_never_mixed(tmp_path):
    path = write(tmp_path / "coco" / "coco_pope_random.json", rows(2910, 1500))
    assert len(read_items(tmp_path, settings=("random-2910",))) == 2910
    with pytest.raises(InputError, match=r"random\.json: 2,910 rows.*LLaVA-1\.5.*random-2910"):
        read_items(tmp_path, settings=("random",))
    for other in (rows(3000, 1500), rows(2910, 1410), rows(20, 10)):
        write(path, other)
        with pytest.raises(InputError, match=r"use the setting random$"):
            read_items(tmp_path, settings=("random-2910",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (rows(3000, 1499), r"3,000 rows, 1,499 of them with label yes: 1,500 are"),
        ([*rows(3, 1), *rows(1, 1)], r"row 4 \(question_id 0\): question_id: twice"),
        ([{**rows(1, 1)[0], "label": "Yes"}], r"row 1 \(question_id 0\): label is 'Yes'"),
        ([{**rows(1, 1)[0], "text": None}], r"row 1 \(question_id 0\): text is missing"),
        ([{"id": 1}], r"row 1: question_id is missing"),
        ([], "has no question"),
    ],
)
def test_foreign_files_are_refused(tmp_path, content, words):
    write(tmp_path / "coco_pope_random.json", content)
    with pytest.raises(InputError, match=rf"coco_pope_random\.json: {words}"):
        read_items(tmp_path, settings=("random",))


def test_a_missing_file_a_broken_one_and_an_unknown_setting_are_named(tmp_path):
    with pytest.raises(InputError, match=r"has no coco_pope_popular\.json"):
        read_items(tmp_path, settings=("popular",))
    for content in (b'{"question_id": 1', b'{"question_id": "caf\xe9"}'):
        (tmp_path / "coco_pope_popular.json").write_bytes(content)
        with pytest.raises(InputError, match="neither JSON lines nor an array"):
            read_items(tmp_path, settings=("popular",))
    with pytest.raises(InputError, match="setting 'hard' is unknown"):
        read_items(tmp_path, settings=("hard",))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
@pytest.mark.parametrize("source", ["coco", "aokvqa", "gqa"])
def test_the_real_files(source):
    questions = read_items(SHARED, source)
    assert len({item.id for item in questions}) == 9000
    assert questions[0].id == "random/1"
    assert read_items(SHARED, source, ("random",))[0].id == "1"
    for setting in ("random", "popular", "adversarial"):
        truths = [item.truth for item in questions if item.truth["setting"] == setting]
        assert Counter(truth["label"] for truth in truths) == {"yes": 1500, "no": 1500}
        images = Counter(truth["image"] for truth in truths)
        assert len(images) == 500
        assert set(images.values()) == {6}
    assert not any("?" in item.truth["object"] for item in questions)
    with pytest.raises(InputError, match=r"use the setting random$"):
        read_items(SHARED, source, ("random-2910",))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
def test_always_yes_on_the_real_files():
    found = values([(item, "") for item in read_items(SHARED)])
    for part in ("random", "popular", "adversarial", "mean", "pooled"):
        assert found[f"official/{part}/accuracy"] == 0.5
        assert found[f"official/{part}/F1"] == pytest.approx(2 / 3)
        assert found[f"strict/{part}/accuracy"] == 0
    assert found["strict/popular/unparsed"] == 1
