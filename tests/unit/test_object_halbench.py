import base64
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from benchmark_data import refined_synonyms, with_nltk
from verdicts import values

from mmpref.benchmarks.object_halbench import score as object_halbench
from mmpref.benchmarks.object_halbench.items import items as read_items
from mmpref.errors import InputError
from mmpref.records.items import Item
from mmpref.scoring.judge import Reply
from mmpref.scoring.resources import Resources

SYNONYMS = refined_synonyms()

LONG = "A photo that shows something in detail."


@pytest.fixture(scope="module", autouse=True)
def nltk_data():
    yield from with_nltk()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "object-halbench"
    folder.mkdir()
    shutil.copy(SYNONYMS, folder)
    return folder


def write_questions(folder: Path, rows: list[dict]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "obj_halbench_300_with_image.jsonl").write_text(text)


def row(id: int, image: bytes = b"photo", question: str = "What is there?") -> dict:
    encoded = base64.b64encode(image).decode()
    return {"org_idx": id, "image_id": id, "question": question, "image": encoded}


def item(id: str, objects: list[str]) -> Item:
    question = "What is there?"
    shared = {"kind": "object-halbench", "question": question}
    return Item(id, (b"photo",), question, shared | {"image": f"{id}.jpg", "objects": objects})


def reply(id: str, text: str | None, run: int = 0, attempt: int = 0) -> Reply:
    return Reply(id, run, attempt, "", "judge", text, None if text is not None else "timed out")


def judged(*replies: Reply, folder: Path = SYNONYMS.parent, runs: int = 1) -> Resources:
    by_item: dict[str, list[Reply]] = {}
    for one in replies:
        by_item.setdefault(one.item, []).append(one)
    return Resources(folder=folder, judge=True, judge_runs=runs, replies=by_item)


def test_items_embed_their_images(folder):
    write_questions(folder, [row(30, b"first", "Describe it."), row(5)])
    (folder / "coco2014_gt_objects_subset.json").write_text('{"5": [], "30": ["dog", "cat"]}')
    first, second = read_items(folder)
    assert (first.id, first.images, first.prompt) == ("30", (b"first",), "Describe it.")
    assert first.truth == {
        "kind": "object-halbench",
        "image": "30",
        "objects": ["cat", "dog"],
        "question": "Describe it.",
    }
    assert (second.id, second.truth["objects"]) == ("5", [])


def test_ground_truth_is_read_with_lemmas_and_the_refined_synonyms(folder):
    write_questions(folder, [row(7), row(8)])
    # CHAIR's own data folder lies beside this one.
    annotations = folder.parent / "chair" / "annotations"
    annotations.mkdir(parents=True)
    images = [{"id": id, "file_name": f"COCO_val2014_{id:012d}.jpg"} for id in (7, 8)]
    captions = {
        7: ["A motor bike and a bus", "My brother has a tie"],
        8: ["Two men", "a cheesecake"],
    }
    (annotations / "captions_val2014.json").write_text(
        json.dumps(
            {
                "images": images,
                "annotations": [
                    {"image_id": id, "caption": caption}
                    for id, texts in captions.items()
                    for caption in texts
                ],
            }
        )
    )
    instances = {
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [{"image_id": 8, "category_id": 1}],
    }
    (annotations / "instances_val2014.json").write_text(json.dumps(instances))
    first, second = read_items(folder)
    assert first.truth["image"] == "COCO_val2014_000000000007.jpg"
    assert first.truth["objects"] == ["bus", "motorcycle", "person", "tie"]
    # The lemma of "men" in WordNet is "men", which is in no list of synonyms.
    assert second.truth["objects"] == ["cake", "cup"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(5), row(5)], r"row 2 \(image_id 5\): image_id: twice"),
        ([row(5) | {"image": "no base64!"}], "row 1: image_id or image"),
        ([row(5) | {"image_id": "a.jpg"}], "row 1: image_id or image"),
        ([{"image_id": 5, "question": "?"}], "row 1: image is None"),
        ([row(5) | {"question": 1}], "row 1: question is 1"),
        ([row(6)], r"no ground truth for 1 images \(6\)"),
    ],
)
def test_foreign_questions_are_refused(folder, rows, words):
    write_questions(folder, rows)
    (folder / "coco2014_gt_objects_subset.json").write_text('{"5": []}')
    with pytest.raises(InputError, match=words):
        read_items(folder)


def test_a_call_asks_for_the_objects_of_one_answer(folder):
    resources = Resources(folder=folder, judge=True, judge_runs=2)
    calls = object_halbench.calls(item("7", []), f" {LONG} {{question}}", resources)
    assert [(call.item, call.run, call.max_tokens) for call in calls] == [
        ("7", 0, 512),
        ("7", 1, 512),
    ]
    assert set(calls[0].temperatures) == {0.2}
    (message,) = calls[0].messages
    assert message["role"] == "user"
    assert message["content"].count("What is there?") == 1
    assert f"{LONG} {{question}}" in message["content"]


@pytest.mark.parametrize("answer", ["", "A dog", "Yes, a dog.", "Assistant: It's a dog"])
def test_a_short_answer_needs_no_call(folder, answer):
    assert object_halbench.calls(item("7", []), answer, Resources(folder=folder)) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("prompt.txt", "Q {question} A {answer}"),
        (
            "eval_gpt_obj_halbench.py",
            "import os\nprompt_template = '''Q {question} A {answer}'''\n",
        ),
    ],
)
def test_an_official_prompt_is_sent_as_the_official_script_does(folder, file, text):
    (folder / file).write_text(text)
    (call,) = object_halbench.calls(item("7", []), LONG, Resources(folder=folder))
    assert call.messages == [{"role": "system", "content": f"Q What is there? A {LONG}"}]
    found = object_halbench.verdict(item("7", []), LONG, judged(folder=folder))
    assert found["judge_prompt"] == "official"


def test_a_prompt_without_a_place_for_the_answer_is_refused(folder):
    (folder / "prompt.txt").write_text("What is in {question}?")
    with pytest.raises(InputError, match=r"prompt\.txt: has no \{answer\}"):
        object_halbench.calls(item("7", []), LONG, Resources(folder=folder))


# What a reply says about an image with a dog, under the official and the strict reading: classes
# mentioned, or None where the reply cannot be read.
@pytest.mark.parametrize(
    ("text", "official", "strict"),
    [
        ('["dog", "brown dogs", "cat"]', 2, 2),
        ('["man", "woman"]', 2, 2),
        ("[]", 0, 0),
        ("()", None, 0),
        ('The objects are:\n["dog"]', 1, 1),
        ('The objects are: ["dog"].', None, 1),
        ('```json\n["dog", "cup"]\n```', None, 2),
        ('["dog"]\n["cat", "cup"]', 2, None),
        ("['dog']", None, None),
        ('{"dog": 1}', 1, None),
        ('["dog", 1]', 1, None),
        ('"dog"', 0, None),
        ("3", None, None),
        ("A dog and a cat.", None, None),
        ("", None, None),
    ],
)
def test_replies_are_parsed_never_guessed(text, official, strict):
    assert object_halbench.usable(text) == (strict is not None)
    row = object_halbench.verdict(item("7", ["dog"]), LONG, judged(reply("7", text)))
    assert (row["official_mentions"], row["official_objects"]) == (
        official or 0,
        official is not None,
    )
    assert (row["mentions"], row["objects"]) == (strict or 0, strict is not None)
    assert row["judge_failures"] == row["unparsed"] == (strict is None)
    assert row["differs"] == (official != strict)


@pytest.mark.parametrize(
    ("phrase", "official", "strict"),
    [
        ("two men", "person", "person"),
        ("tall wine glasses", "wine glass", "wine glass"),
        ("potted plants", "potted plant", "potted plant"),
        ("bow tie", "tie", "tie"),
        ("baby elephant", "elephant", "elephant"),
        ("remote control", "remote", "remote"),
        ("coffee table", "dining table", "dining table"),
        ("slice of pizza", "pizza", "pizza"),
        ("people walking", "person", "person"),
        ("tennis player", None, "person"),
        ("dining-table", None, "dining table"),
        ("dog house", None, None),
        ("clock tower", None, None),
        ("traffic light pole", "traffic light", None),
        ("sky", None, None),
    ],
)
def test_phrases_to_classes(phrase, official, strict):
    text = json.dumps([phrase])
    row = object_halbench.verdict(item("7", ["x"]), LONG, judged(reply("7", text)))
    assert row["mentions"] == (strict is not None)
    parts = []
    if official != strict:
        parts += [f"also counts {official}"] if official else []
        parts += [f"misses {strict}"] if strict else []
    assert row["note"] == (f"the official reading {' and '.join(parts)}" if parts else "")


def test_a_seat_beside_a_toilet_does_not_count():
    row = object_halbench.verdict(
        item("7", ["toilet"]), LONG, judged(reply("7", '["seat", "toilet", "toilet seat"]'))
    )
    assert (row["mentions"], row["official_mentions"], row["flawed"]) == (1, 1, False)


def test_spacy_parses_the_phrases_where_it_is_installed(monkeypatch):
    spacy = pytest.importorskip("spacy")
    # What en_core_web_trf says about these phrases, written down by hand.
    parses = {
        "a tennis player": ("a tennis player", "DT NN NN"),
        "a Dogs": ("a dog", "DT NNS"),
        "a traffic lights pole": ("a traffic light pole", "DT NN NNS NN"),
        "a cats and cups": ("a cat and cup", "DT NNS CC NNS"),
    }
    vocab = spacy.blank("en").vocab

    class Pipeline:
        meta = {"version": "3.7.3"}  # noqa: RUF012

        def __call__(self, text):
            lemmas, tags = parses[text]
            return spacy.tokens.Doc(
                vocab, words=text.split(), lemmas=lemmas.split(), tags=tags.split()
            )

    monkeypatch.setattr(object_halbench, "_spacy", Pipeline)
    object_halbench._parse.cache_clear()
    text = json.dumps(["tennis player", "Dogs", "traffic lights pole", "cats and cups"])
    row = object_halbench.verdict(item("7", ["dog", "cup"]), LONG, judged(reply("7", text)))
    object_halbench._parse.cache_clear()
    assert row["parser"] == "en_core_web_trf 3.7.3"
    # dog, traffic light, cat, cup
    assert (row["official_mentions"], row["official_hallucinated"]) == (4, 2)
    assert row["official_covered"] == 2


def test_metrics_by_hand():
    resources = judged(
        reply("1", '["dog", "dogs", "cat", "sofa", "couch"]'),
        reply("2", '["cup"]'),
        reply("3", '["sky", "grass"]'),
    )
    rows = [
        object_halbench.verdict(item("1", ["dog", "couch"]), "A  dog, a cat, a sofa.", resources),
        object_halbench.verdict(item("2", ["cup", "fork", "bowl"]), "A cup is there.", resources),
        object_halbench.verdict(item("3", ["kite"]), "Assistant: Sky over green grass.", resources),
        object_halbench.verdict(item("4", ["dog"]), "A bus.", resources),
    ]
    # Names: dog, cat (absent), sofa, couch | cup | none | strict only: bus (absent).
    assert values(object_halbench, rows) == pytest.approx(
        {
            "official/CHAIRs": 50.0,  # one of two answers with an object
            "official/CHAIRi": 20.0,  # one of five
            "official/Recall": 42.86,  # 3 of 7
            "official/words": 4.25,  # 7 (with an empty one) + 4 + 4 + 2
            "strict/CHAIRs": 100 * 2 / 3,
            "strict/CHAIRi": 100 * 2 / 6,
            "strict/Recall": 100 * 3 / 7,
            "strict/words": 16 / 4,
        }
    )
    assert [row["flawed"] for row in rows] == [True, False, False, True]
    assert [row["differs"] for row in rows] == [0, 0, 0, 1]
    assert [row["unparsed"] for row in rows] == [0, 0, 0, 0]
    assert rows[3]["note"] == "the official reading misses bus"
    assert rows[0]["expected"] == "in the image: dog, couch"
    assert rows[0]["hallucinated_mentions"] == [{"name": "cat", "start": 10, "end": 13}]
    assert [mention["name"] for mention in rows[0]["grounded_mentions"]] == ["dog", "couch"]


def test_judge_runs_are_summed_and_failures_counted():
    resources = judged(
        *(reply("1", "I see a dog", 0, attempt) for attempt in range(2)),
        reply("1", '["dog"]', 0, 2),
        reply("1", '["dog", "cat"]', 1),
        reply("1", None, 2),
        reply("1", "no list", 3, 0),
        reply("2", None, 0),
        runs=4,
    )
    row = object_halbench.verdict(item("1", ["dog", "cup"]), LONG, resources)
    assert [row[name] for name in ("mentions", "hallucinated", "covered", "objects")] == [
        3,
        1,
        2,
        4,
    ]
    assert (row["judge_failures"], row["unparsed"], row["flawed"]) == (2, 0, False)
    assert row["note"] == "no usable reply in 2 of 4 runs of the judge"
    nothing = object_halbench.verdict(item("2", ["dog"]), LONG, resources)
    assert (nothing["judge_failures"], nothing["unparsed"], nothing["objects"]) == (4, 1, 0)
    assert values(object_halbench, [row, nothing])["strict/CHAIRi"] == pytest.approx(100 / 3)


def test_without_a_judge_the_numbers_are_those_of_rules():
    resources = Resources(folder=SYNONYMS.parent)
    rows = [
        object_halbench.verdict(
            item("1", ["dog", "remote"]),
            "Two dogs, a dog and a remote control by a bus.",
            resources,
        ),
        object_halbench.verdict(item("2", ["cup"]), "A coffee table.", resources),
        object_halbench.verdict(item("3", ["cup"]), "", resources),
    ]
    assert values(object_halbench, rows) == pytest.approx(
        {
            "rules/CHAIRs": 100.0,  # of two answers with an object
            "rules/CHAIRi": 50.0,  # bus and table of dog, remote control, bus and table
            "rules/Recall": 50.0,
            "rules/words": 14 / 3,
        }
    )
    assert [row["unparsed"] for row in rows] == [0, 0, 1]
    assert [mention["name"] for mention in rows[0]["grounded_mentions"]] == ["dog", "dog", "remote"]


def test_without_objects_rates_are_undefined():
    found = values(
        object_halbench, [object_halbench.verdict(item("1", []), LONG, judged(reply("1", "[]")))]
    )
    assert np.isnan([found[f"official/{name}"] for name in ("CHAIRs", "CHAIRi", "Recall")]).all()


def test_a_missing_folder_is_named():
    with pytest.raises(InputError, match=r"no folder with synonyms_refine\.txt"):
        object_halbench.verdict(item("1", []), LONG, Resources())
