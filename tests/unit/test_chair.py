import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from benchmark_data import BENCHMARKS, SYNONYMS, needs_shared, with_nltk
from hypothesis import given
from hypothesis import strategies as st
from verdicts import values

from mmpref.benchmarks.chair import image_id
from mmpref.benchmarks.chair import score as chair
from mmpref.benchmarks.chair.items import SUBSET, image_ids
from mmpref.benchmarks.chair.items import items as read_items
from mmpref.benchmarks.chair.words import official_mentions, read_words
from mmpref.errors import InputError
from mmpref.language.words import singular
from mmpref.records.items import Item
from mmpref.scoring.resources import Resources

DATA = SYNONYMS.parent
REAL = BENCHMARKS / "chair"


@pytest.fixture(scope="module", autouse=True)
def nltk_data():
    yield from with_nltk()


def official(caption: str) -> list[str]:
    found = official_mentions(caption, read_words(DATA), singular)
    return [name for _, name in found]


def strict(caption: str) -> list[str]:
    return [mention.name for mention in chair.find_mentions(caption, read_words(DATA))]


def verdict(caption: str, objects: list[str]) -> dict:
    item = Item("1", (), "", {"kind": "chair", "image": "1", "objects": objects})
    return chair.verdict(item, caption, Resources(folder=DATA))


@pytest.mark.parametrize(
    ("caption", "by_official", "by_strict"),
    [
        ("Two dogs and a CAT.", ["dog", "cat"], ["dog", "cat"]),
        ("A dog, a dog, dogs", ["dog"] * 3, ["dog"] * 3),
        ("A bus and buses", ["bus"], ["bus", "bus"]),
        ("a tie and two ties", ["tie"], ["tie", "tie"]),
        ("a bow tie", ["tie"], ["tie"]),
        ("a glass, a wine glass, wine glasses", ["wine glass"] * 2, ["wine glass"] * 2),
        ("people, men, women and children", ["person"] * 4, ["person"] * 4),
        ("knives, geese, mice, oxen, sheep", *[["knife", "bird", "mouse", "cow", "sheep"]] * 2),
        ("scissors, skis, a ski", *[["scissors", "skis", "skis"]] * 2),
        ("smartphones and an iPhone", ["cell phone"], ["cell phone", "cell phone"]),
        ("two TVs", ["tv"], ["tv"]),
        # Pairs are one word; neither of their parts counts.
        ("hot dogs", ["hot dog"], ["hot dog"]),
        ("a hot, dog", ["dog"], ["dog"]),
        ("a teddy bear on a laptop computer", *[["teddy bear", "laptop"]] * 2),
        ("home plate, train tracks and a train", ["train"], ["train"]),
        ("a baby elephant, adult birds, a baby cub", *[["elephant", "bird"]] * 2),
        ("a baby goat", ["person", "sheep"], ["sheep"]),
        ("a passenger train and a passenger jet", *[["train", "airplane"]] * 2),
        ("a passenger bus", ["person"], ["bus"]),
        ("a passenger and a baby", ["person", "person"], ["person", "person"]),
        ("a dining table and a coffee table", *[["dining table"] * 2] * 2),
        ("two potted plants", ["potted plant"], ["potted plant"]),
        ("sports balls and a tennis racket", *[["sports ball", "tennis racket"]] * 2),
        ("a stove top oven", ["oven", "oven"], ["oven"]),
        # A seat beside a toilet is none to sit on.
        ("a toilet seat", ["toilet"], ["toilet"]),
        ("the seats of a toilet; a urinal", ["toilet", "toilet"], ["toilet", "toilet"]),
        ("the seat of a urinal", ["chair", "toilet"], ["chair", "toilet"]),
        # The entries with a space in front.
        ("a motor bike", [], ["motorcycle"]),
        ("a cheesecake", [], ["cake"]),
        ("a motor cycle", ["motorcycle"], ["motorcycle"]),
        # Hyphens, apostrophes and slashes.
        ("a dining-table, Wine-glasses", [], ["dining table", "wine glass"]),
        ("a stove-top oven", ["oven"], ["oven"]),
        ("a cup-shaped vase, a dog-like bear", *[["vase", "bear"]] * 2),
        ("a cupboard, doghouses and a bookshelf", [], []),
        ("the dog's bowl, the dogs' bowls", *[["dog", "bowl", "dog", "bowl"]] * 2),
        ("a cat/dog; **car**", ["car"], ["cat", "dog", "car"]),
        ("a dog.The cat", ["cat"], ["dog", "cat"]),
        ("a cat—a dog", ["cat", "dog"], ["cat", "dog"]),
        ("There is no dog.", ["dog"], ["dog"]),
        ("as was us", [], []),
        ("", [], []),
    ],
)  # fmt: skip
def test_what_counts_as_a_mention(caption, by_official, by_strict):
    assert official(caption) == by_official
    assert strict(caption) == by_strict


def test_every_name_is_found_by_the_strict_reading_in_both_cases():
    words = read_words(DATA)
    for name, kind in words.classes.items():
        for text in (name, name.strip().upper(), name.strip().replace(" ", "-")):
            assert strict(f"The {text}, you see") == [kind], text


@given(st.text(), st.sampled_from(["bus", "Dining-Tables", "wine glasses", "MOTOR BIKES"]))
def test_spans_hold_the_mention(before, name):
    text = f"{before} . {name} İ"
    last = chair.find_mentions(text, read_words(DATA))[-1]
    assert text[last.start : last.end] == name


def test_metrics_by_hand():
    rows = [
        verdict("A dog, two dogs, a table and a bus.", ["dog", "cup"]),
        verdict("Several people on a passenger bus -", ["bus"]),
        verdict("", ["knife"]),
        verdict("Nothing is here.", []),
    ]
    # Official: dog, dog, table | person, person; strict: dog, dog, table, bus | person, bus.
    assert values(chair, rows) == pytest.approx(
        {
            "official/CHAIRs": 50.0,
            "official/CHAIRi": 60.0,
            "official/Recall": 25.0,
            "official/words": 4.8,
            "strict/CHAIRs": 50.0,
            "strict/CHAIRi": 100 * 3 / 6,
            "strict/Recall": 100 * 2 / 4,
            "strict/words": 18 / 4,
        }
    )
    assert [row["unparsed"] for row in rows] == [0, 0, 1, 0]
    assert [row["differs"] for row in rows] == [1, 1, 0, 0]
    assert [row["flawed"] for row in rows] == [True, True, False, False]


def test_a_verdict_shows_where_and_why():
    row = verdict("A passenger bus by two buses.", ["dog", "person"])
    assert row["hallucinated_mentions"] == [
        {"name": "bus", "start": 2, "end": 15},
        {"name": "bus", "start": 23, "end": 28},
    ]
    assert row["grounded_mentions"] == []
    assert row["note"] == "the official reading also counts person and misses bus"
    assert row["expected"] == "in the image: dog, person"
    assert verdict("A dog.", ["dog"])["note"] == ""


def test_without_mentions_rates_are_undefined():
    found = values(chair, [verdict("Nothing.", [])])
    assert found["official/CHAIRs"] == found["strict/CHAIRs"] == 0
    for name in ("CHAIRi", "Recall"):
        assert np.isnan(found[f"official/{name}"])
        assert np.isnan(found[f"strict/{name}"])


@needs_shared
def test_the_list_of_synonyms_is_the_benchmarks_own():
    assert SYNONYMS.read_bytes() == (REAL / SYNONYMS.name).read_bytes()


@needs_shared
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("Instruction1_llava", (62.7, 18.8, 76.7, 91.2)),
        ("Instruction2_llava", (32.7, 10.5, 68.0, 64.3)),
        ("Instruction1_minigpt-4", (31.5, 9.2, 60.9, 117.6)),
        ("Instruction2_minigpt-4", (9.5, 6.7, 48.8, 24.8)),
    ],
)
def test_published_captions_score_as_with_the_official_scorer(file, expected):
    text = (BENCHMARKS / "pope/captions" / f"{file}.json").read_text()
    captions, decoder = {}, json.JSONDecoder()
    while text := text.lstrip():
        row, end = decoder.raw_decode(text)
        captions[image_id(row["image_id"])] = row["text"]
        text = text[end:]
    items = read_items(REAL, captions.keys())
    assert len(items) == len(captions) == 2000
    resources = Resources(folder=REAL)
    found = values(chair, [chair.verdict(item, captions[item.id], resources) for item in items])
    official = [found[f"official/{name}"] for name in ("CHAIRs", "CHAIRi", "Recall", "words")]
    assert tuple(official) == expected
    # Few words differ between the readings, so a strict value far off is a fault of ours.
    assert abs(found["strict/CHAIRi"] - expected[1]) < 0.3
    assert 0 < found["strict/Recall"] - expected[2] < 1


@pytest.mark.parametrize(
    ("text", "id"),
    [
        (40468, "40468"),
        ("40468", "40468"),
        ("000000040468.jpg", "40468"),
        ("COCO_val2014_000000040468.jpg", "40468"),
        ("COCO_train2014_000000000009", "9"),
        ("val2014/COCO_val2014_000000040468.jpg", "40468"),
    ],
)
def test_image_ids(text, id):
    assert image_id(text) == id


@pytest.mark.parametrize("text", ["", "dog.jpg", "40468_2", "4 0"])
def test_other_image_ids_are_refused(text):
    with pytest.raises(InputError, match="not a COCO image; write its number or its file name"):
        image_id(text)


def write_coco(folder: Path, split: str, images: dict[int, tuple[list[str], list[str]]]) -> None:
    """Write annotations in COCO's format; `images` maps ids to captions and instances' classes."""
    (folder / "annotations").mkdir(exist_ok=True, parents=True)
    shutil.copy(DATA / "synonyms.txt", folder)
    kinds = sorted({kind for _, kinds in images.values() for kind in kinds})
    heads = [
        {"id": id, "file_name": f"COCO_{split}2014_{id:012d}.jpg", "height": 1} for id in images
    ]
    instances = {
        "images": heads,
        "categories": [{"supercategory": "x", "id": 7 + n, "name": k} for n, k in enumerate(kinds)],
        "annotations": [
            {"segmentation": [[1.5, 2]], "image_id": id, "category_id": 7 + kinds.index(kind)}
            for id, (_, found) in images.items()
            for kind in found
        ],
    }
    captions = {
        "images": heads,
        "annotations": [
            {"image_id": id, "id": 1, "caption": caption}
            for id, (found, _) in images.items()
            for caption in found
        ],
    }
    for name, content in (("instances", instances), ("captions", captions)):
        (folder / "annotations" / f"{name}_{split}2014.json").write_text(json.dumps(content))


@needs_shared
def test_the_subset_lists_its_images_by_number():
    ids = image_ids(REAL)
    assert len(ids) == 2483
    assert ids == [item.id for item in read_items(REAL)]


def test_a_subset_is_read_by_number(tmp_path):
    shutil.copy(SYNONYMS, tmp_path)
    (tmp_path / SUBSET).write_text('{"40": ["dog", "cat"], "7": []}')
    assert image_ids(tmp_path) == ["7", "40"]
    assert [(item.id, item.truth["objects"]) for item in read_items(tmp_path)] == [
        ("7", []),
        ("40", ["cat", "dog"]),
    ]


@needs_shared
def test_ground_truth_from_annotations_is_that_of_the_subset(tmp_path):
    source = BENCHMARKS / "llava_bench/coco/caps_boxes_coco2014_val_80.jsonl"
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    images = {
        int(row["id"]): (row["captions"], [found["category"] for found in row["instances"]])
        for row in rows
    }
    write_coco(tmp_path, "val", images)
    known = {item.id: item for item in read_items(REAL)}
    items = read_items(tmp_path)
    assert len(items) == 80
    both = [item for item in items if item.id in known]
    assert len(both) == 5
    for item in both:
        assert item.truth["objects"] == known[item.id].truth["objects"]


def test_items_of_both_splits(tmp_path):
    write_coco(tmp_path, "train", {30: (["A man and a bus.", "Two buses"], []), 4: ([], ["dog"])})
    write_coco(tmp_path, "val", {5: (["A sofa"], ["cat", "cat"]), 6: (["Sky"], [])})
    assert [(item.id, item.truth) for item in read_items(tmp_path)] == [
        (id, {"kind": "chair", "image": f"COCO_{split}2014_{int(id):012d}.jpg", "objects": objects})
        for id, split, objects in [
            ("4", "train", ["dog"]),
            ("5", "val", ["cat", "couch"]),
            ("6", "val", []),
            ("30", "train", ["bus", "person"]),
        ]
    ]
    assert image_ids(tmp_path) == ["5", "6"]
    some = read_items(tmp_path, {"30", "COCO_val2014_000000000005.jpg"})
    assert [item.id for item in some] == ["5", "30"]
    assert some[0].prompt == "Please describe this image in detail."


def test_instances_of_a_split_without_a_wanted_image_are_not_read(tmp_path):
    write_coco(tmp_path, "train", {30: (["A man"], [])})
    write_coco(tmp_path, "val", {5: (["A cat"], [])})
    (tmp_path / "annotations/instances_train2014.json").write_text("hundreds of megabytes")
    assert [item.id for item in read_items(tmp_path, ["5"])] == ["5"]


def test_images_without_ground_truth_are_named(tmp_path):
    subset = tmp_path / "subset"
    subset.mkdir()
    shutil.copy(SYNONYMS, subset)
    (subset / SUBSET).write_text('{"5": ["cat"]}')
    write_coco(tmp_path, "val", {5: (["A cat"], [])})
    with pytest.raises(InputError, match=r"no ground truth for 2 images \(7, 30\); put COCO's"):
        read_items(tmp_path, {"5", "7", "30"})
    with pytest.raises(InputError, match=r"no ground truth for 1 images \(7\)"):
        read_items(subset, {"7"})


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("instances", None, "both of a split"),
        ("captions", None, "both of a split"),
        ("captions", '{"images": [', "captions_val2014.json: cannot be read"),
        ("captions", '{"images": [{"id": 5}]}', "images, row 1: lacks one of id, file_name"),
        ("instances", "[]", "is not a JSON object"),
        ("instances", '{"annotations": [{"image_id": 5}]}', "annotations, row 1: lacks one of"),
        ("instances", '{"categories": [{"id": 1, "name": "lorry car"}]}', "not one of COCO's 80"),
        (
            "instances",
            '{"annotations": [{"image_id": 5, "category_id": 3}]}',
            "category_id 3 is not among categories",
        ),
    ],
)
def test_foreign_annotations_are_refused(tmp_path, file, content, words):
    write_coco(tmp_path, "val", {5: (["A cat"], [])})
    path = tmp_path / f"annotations/{file}_val2014.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=words):
        read_items(tmp_path)


def test_a_folder_without_the_benchmark_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"synonyms\.txt: cannot be read"):
        read_items(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        chair.verdict(Item("1", (), "", {"objects": []}), "a dog", Resources())
    (tmp_path / "a").mkdir()
    (tmp_path / "a/synonyms.txt").write_text("dog\ncat\n")
    with pytest.raises(InputError, match="not a list of COCO's synonyms"):
        read_items(tmp_path / "a")
    shutil.copy(DATA / "synonyms.txt", tmp_path)
    (tmp_path / SUBSET).write_text('{"12": "dog"}')
    with pytest.raises(InputError, match="entry '12': is not an image"):
        read_items(tmp_path)
