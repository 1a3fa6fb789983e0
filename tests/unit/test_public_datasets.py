"""Each public dataset with rows in the exact form of its files."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from raw_datasets import (
    COCO_ID,
    LLAVA_RLHF,
    MDPO,
    POPE,
    POVID,
    QUESTION,
    REWORDED,
    RLAIF_V,
    RLHF_V,
    VLFEEDBACK,
    png,
    said,
    write,
    write_genome,
    write_vlfeedback_images,
)

from mmpref.datasets.dataset import Dataset
from mmpref.datasets.hadpo import QUESTIONS, HADPODataset
from mmpref.datasets.llava_rlhf import LlavaRLHFDataset
from mmpref.datasets.mdpo import MdpoDataset
from mmpref.datasets.povid import PovidDataset
from mmpref.datasets.rlaif_v import RLAIFVDataset
from mmpref.datasets.rlhf_v import RLHFVDataset
from mmpref.datasets.vlfeedback import VLFeedbackDataset
from mmpref.downloads import load
from mmpref.errors import InputError
from mmpref.records.pairs import validate
from mmpref.records.rows import Pair, Quarantined, Skipped
from mmpref.study.registry import kinds


def results(dataset: Dataset) -> tuple[list[Pair], list[Quarantined], Counter[str]]:
    rows = list(dataset.rows(seed=0, require_rejected=True))
    skipped = Counter(row.reason for row in rows if isinstance(row, Skipped))
    checked = list(validate(rows))
    pairs = [row for row in checked if isinstance(row, Pair)]
    return pairs, [row for row in checked if isinstance(row, Quarantined)], skipped


def texts(pairs: list[Pair]) -> list[tuple[str, str, str]]:
    return [(pair.prompt, pair.chosen, pair.rejected) for pair in pairs]


@pytest.fixture
def vlfeedback(tmp_path: Path) -> Path:
    write(tmp_path / "vlfeedback_80k.jsonl", [VLFEEDBACK])
    write_vlfeedback_images(tmp_path)
    return tmp_path


def test_vlfeedback_pairs_all_with_different_means(vlfeedback: Path) -> None:
    """Means: 13/3, 8/3, 13/3; the fourth answer has a rating that is not a number."""
    dataset = VLFeedbackDataset(source="vlfeedback", folder=str(vlfeedback), images=str(vlfeedback))
    pairs, bad, skipped = results(dataset)
    assert texts(pairs) == [
        ("What is on the table?", "A cup.", "A dog."),
        ("What is on the table?", "A mug.", "A dog."),
    ]
    assert all(pair.id.startswith("svit-conversation-0-") for pair in pairs)
    assert pairs[0].images == (png(),)
    assert pairs[0].meta == {
        "models": ["llava-v1.5-7b", "qwen-vl-chat"],
        "ratings": [13 / 3, 8 / 3],
    }
    assert skipped == {"two answers with equal ratings": 1}
    (row,) = bad
    assert (row.row, row.id) == (1, "svit-conversation-0-3")
    assert row.field == "annotations.Ethical Considerations.Rating"
    assert row.reason == "is not a number (N/A)"


@pytest.mark.parametrize(
    ("rating", "expected"),
    [
        ("mean", ("A cup.", "A dog.")),  # the first of two best
        ("Helpfulness", ("A mug.", "A dog.")),
        ("Visual Faithfulness", ("A cup.", "A dog.")),
        ("Ethical Considerations", ("A cup.", "A mug.")),
    ],
)
def test_vlfeedback_best_against_worst(
    vlfeedback: Path, rating: Any, expected: tuple[str, str]
) -> None:
    dataset = VLFeedbackDataset(
        source="vlfeedback",
        folder=str(vlfeedback),
        images=str(vlfeedback / "merged_images.zip"),
        pairing="extremes",
        rating=rating,
    )
    pairs, bad, skipped = results(dataset)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [expected]
    # Helpfulness and faithfulness of the fourth answer are numbers.
    assert len(bad) == (rating in ("mean", "Ethical Considerations"))
    assert not skipped


@pytest.mark.parametrize("rating", ["nan", "inf", "", "four", None, [4]])
def test_vlfeedback_ratings_that_are_no_numbers(vlfeedback: Path, rating: Any) -> None:
    row = json.loads(json.dumps(VLFEEDBACK))
    row["completions"][2]["annotations"]["Helpfulness"]["Rating"] = rating
    write(vlfeedback / "vlfeedback_80k.jsonl", [row])
    dataset = VLFeedbackDataset(
        source="vlfeedback", folder=str(vlfeedback), images=str(vlfeedback), rating="Helpfulness"
    )
    pairs, (bad,), _ = results(dataset)
    assert "A mug." not in str(texts(pairs))
    assert bad.field == "annotations.Helpfulness.Rating"
    assert bad.content["response"] == "A mug."


def test_vlfeedback_has_several_rows_with_one_id(vlfeedback: Path) -> None:
    again = VLFEEDBACK | {"prompt": "What else?"}
    write(vlfeedback / "vlfeedback_80k.jsonl", [VLFEEDBACK, again, VLFEEDBACK])
    dataset = VLFeedbackDataset(source="vlfeedback", folder=str(vlfeedback), images=str(vlfeedback))
    pairs, bad, _ = results(dataset)
    assert len(pairs) == 4
    assert Counter(row.row for row in bad) == {1: 1, 2: 1, 3: 3}
    assert bad[-1].reason.startswith("is not unique (first in ")


def test_vlfeedback_rows_that_are_of_no_use(vlfeedback: Path) -> None:
    rows = [
        VLFEEDBACK | {"id": "a/../../x"},
        VLFEEDBACK | {"id": "absent"},
        VLFEEDBACK | {"id": None},
        VLFEEDBACK | {"completions": {"model": ["a"], "response": ["b"]}},  # the loading script's
        VLFEEDBACK | {"completions": VLFEEDBACK["completions"][:1]},
        VLFEEDBACK | {"completions": ["text", *VLFEEDBACK["completions"][:2]]},
    ]
    write(vlfeedback / "vlfeedback_80k.jsonl", rows)
    folder = str(vlfeedback)
    dataset = VLFeedbackDataset(
        source="vlfeedback", folder=folder, images=folder, pairing="extremes", rating="Helpfulness"
    )
    pairs, bad, skipped = results(dataset)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [("A cup.", "A dog.")]
    assert skipped == {"a question with fewer than two rated answers": 1}
    reasons = [(row.row, row.field, row.reason.partition(" (")[0]) for row in bad]
    assert reasons == [
        (1, "images", "leaves the image folder"),
        (2, "images", "does not exist"),
        (3, "id", "is missing"),
        (4, "completions", "is not a list of answers"),
        (6, "annotations.Helpfulness.Rating", "is missing"),
    ]


def test_mdpo_has_its_template_stripped(vlfeedback: Path) -> None:
    rows = [
        MDPO,
        MDPO | {"img_path": "merged_images/llava-reasoning-3730.jpg", "chosen": "2"},
        MDPO | {"img_path": "llava-reasoning-3730.jpg", "prompt": "<image>\nHow?"},
        MDPO | {"prompt": "A question that says USER: twice? USER: <image>\nHow? ASSISTANT:"},
        MDPO | {"img_path": "../llava-reasoning-3730.jpg"},
        MDPO | {"prompt": "USER: How?"},
        MDPO | {"prompt": "USER: <image> <image>\nHow? ASSISTANT:"},
        {name: value for name, value in MDPO.items() if name != "img_path"},
    ]
    write(vlfeedback / "vlfeedback_llava_10k.json", rows)
    dataset = MdpoDataset(source="mdpo", folder=str(vlfeedback), images=str(vlfeedback))
    pairs, bad, _ = results(dataset)
    chosen, rejected = MDPO["chosen"], MDPO["rejected"]
    asked = "How might the atmosphere of the photo be?"
    assert texts(pairs) == [
        (asked, chosen, rejected),
        (asked, "2", rejected),
        ("How?", chosen, rejected),
        ("twice? USER: \nHow?", chosen, rejected),
    ]
    assert {pair.images for pair in pairs} == {(png("blue"),)}
    assert pairs[0].id.startswith("llava-reasoning-3730-")
    assert [(row.row, row.field, row.reason.partition(" (")[0]) for row in bad] == [
        (5, "images", "leaves the image folder"),
        (6, "prompt", "has another template than `... USER: ... ASSISTANT:`"),
        (7, "prompt", "does not have as many placeholders as images"),
        (8, "img_path", "is missing"),
    ]


def test_rlhf_v_of_both_kinds_of_columns(tmp_path: Path) -> None:
    older = {name: RLHF_V[name] for name in ("image", "text", "origin_dataset", "origin_split")}
    pq.write_table(pa.Table.from_pylist([older]), tmp_path / "RLHF-V-Dataset.parquet")
    dataset = RLHFVDataset(source="rlhf_v", folder=str(tmp_path))
    ((pair,), bad, _) = results(dataset)
    assert texts([pair]) == [(QUESTION, "A white shirt.", "White pants.")]
    assert pair.images == (png(),)
    assert pair.meta["origin_dataset"] == "LCS-558K"
    assert not bad
    rows = [
        RLHF_V,
        RLHF_V | {"image": None, "idx": 1},
        RLHF_V | {"text": "{", "idx": 2},
        RLHF_V | {"text": "[1]", "idx": 3},
        RLHF_V | {"text": '{"question": "What?", "chosen": "A."}', "idx": 4},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "RLHF-V-Dataset.parquet")
    (again,), bad, _ = results(dataset)
    assert again.id == pair.id
    assert again.meta["idx"] == 0
    assert [(row.row, row.field, row.reason.partition(" (")[0]) for row in bad] == [
        (2, "image", "is missing"),
        (3, "text", "is not JSON"),
        (4, "text", "is not a JSON object with question, chosen and rejected"),
        (5, "rejected", "is missing"),
    ]
    assert bad[1].content["image"]["bytes"] == f"<{len(png())} bytes>"


def test_rlaif_v_is_read_shard_by_shard(tmp_path: Path) -> None:
    for shard, answers in enumerate((["A.", "B."], ["C.", "A."])):
        table = pa.Table.from_pylist([RLAIF_V | {"chosen": answer} for answer in answers])
        pq.write_table(table, tmp_path / f"RLAIF-V-Dataset_{shard:03d}.parquet")
    dataset = RLAIFVDataset(source="rlaif_v", folder=str(tmp_path))
    pairs, (twice,), _ = results(dataset)
    assert [pair.chosen for pair in pairs] == ["A.", "B.", "C."]
    assert Path(twice.file).name == "RLAIF-V-Dataset_001.parquet"
    assert twice.reason.startswith("is not unique (first in ")
    with pytest.raises(InputError, match=r"empty: has no RLAIF-V-Dataset_\*\.parquet"):
        results(RLAIFVDataset(source="rlaif_v", folder=str(tmp_path / "empty")))


@pytest.fixture(params=[f"{COCO_ID}.jpg", f"train2014/{COCO_ID}.jpg", "train2017/000000353952.jpg"])
def coco(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An image of COCO as the releases of 2014 and 2017 have it."""
    path = tmp_path / "coco" / request.param
    path.parent.mkdir(parents=True)
    path.write_bytes(png())
    return tmp_path / "coco"


def test_povid(tmp_path: Path, coco: Path) -> None:
    longer = said("<image>\nWhat?", "A cup.", "Where?", "On a table.")
    rows = [
        POVID,
        POVID | {"conversations": longer, "rejected_conversations": [*longer[:3], longer[1]]},
        POVID | {"image": f"../../{COCO_ID}.jpg"},
        POVID | {"image": None},
        POVID | {"image": [f"{COCO_ID}.jpg", "b.jpg"]},
        POVID | {"conversations": said("<image>\nWhat?")},
        POVID | {"rejected_conversations": "none"},
        POVID | {"conversations": [{"from": "robot", "value": "A."}]},
    ]
    write(tmp_path / "POVID_preference_data_for_VLLMs_version_1.json", rows)
    dataset = PovidDataset(source="povid", folder=str(tmp_path), images=str(coco))
    pairs, bad, _ = results(dataset)
    assert texts(pairs) == [
        ("Describe this image in detail.", "A cup on a table.", "A cup and a dog."),
        ("User: What?\n\nAssistant: A cup.\n\nUser: Where?", "On a table.", "A cup."),
    ]
    assert pairs[0].images == (png(),)
    assert len({pair.id for pair in pairs}) == 2
    assert [(row.row, row.field, row.reason.partition(" (")[0]) for row in bad] == [
        (3, "images", "leaves the image folder"),
        (4, "image", "is missing"),
        (5, "image", "should be text"),
        (6, "conversations", "does not end with an answer"),
        (7, "rejected_conversations", "should be a list of messages"),
        (8, "conversations", "has an unknown role"),
    ]


def test_llava_rlhf(tmp_path: Path, coco: Path) -> None:
    first = LLAVA_RLHF | {"preference": 1, "conversations": said("What?\n<image>", "A cup.")}
    missing = {name: value for name, value in LLAVA_RLHF.items() if name != "output_2"}
    rows = [LLAVA_RLHF, first, LLAVA_RLHF | {"preference": 3}, missing]
    write(tmp_path / "llava_7b_v1_preference.json", rows)
    dataset = LlavaRLHFDataset(source="llava_rlhf", folder=str(tmp_path), images=str(coco))
    pairs, bad, _ = results(dataset)
    assert texts(pairs) == [
        ("User: What?\n\nAssistant: A cup.\n\nUser: Where is it?", "On a table.", "On a dog."),
        ("What?", "On a dog.", "On a table."),
    ]
    assert pairs[0].meta["hallucination"] is True
    assert [(row.field, row.reason) for row in bad] == [
        ("preference", "is neither 1 nor 2 (3)"),
        ("output_2", "should be a message with a value (is NoneType)"),
    ]


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    images = tmp_path / "genome"
    write_genome(images)
    return images


@pytest.mark.parametrize("model", ["llava-v1.5", "minigpt4"])
def test_hadpo(tmp_path: Path, genome: Path, model: Any) -> None:
    """LLaVA's descriptions are an object by image, the other models' a list."""
    folder = tmp_path / "hadpo" / model
    by_image = {"1": REWORDED, "8": REWORDED, "7": REWORDED, "2415": {"chosen": []}}
    rows = [{"image_id": int(key), **row} for key, row in by_image.items()]
    write(folder / "desc_data.json", by_image if model == "llava-v1.5" else rows)
    other = {name: value for name, value in POPE.items() if name != "reject"}
    answers = [POPE, POPE | {"correct": True}, other | {"rejected": "Not."}, {"question": "What?"}]
    write(folder / "pope_data.json", answers)
    dataset = HADPODataset(source="hadpo", folder=str(tmp_path), images=str(genome), model=model)
    pairs, bad, skipped = results(dataset)
    described, asked, older = pairs
    assert described.chosen in REWORDED["chosen"]
    assert described.rejected in REWORDED["rejected"]
    assert described.prompt in QUESTIONS
    assert described.images == (png(),)
    assert texts([asked]) == [(POPE["question"], POPE["chosen"], POPE["reject"])]
    assert asked.images == (png("blue"),)
    assert older.rejected == "Not."
    assert skipped == {"the model's answer was right": 1}
    assert [(Path(row.file).name, row.row, row.field, row.reason) for row in bad] == [
        ("desc_data.json", 2, "image_id", "is not in image_data.json (8)"),
        ("desc_data.json", 3, "images", "leaves the image folder (../..)"),
        ("desc_data.json", 4, "chosen", "should be a list of texts that is not empty"),
        ("pope_data.json", 4, "image_id", "is missing"),
    ]


def test_hadpo_draws_by_seed_and_image(tmp_path: Path, genome: Path) -> None:
    folder = tmp_path / "hadpo" / "llava-v1.5"
    write(folder / "pope_data.json", [])
    dataset = HADPODataset(source="hadpo", folder=str(tmp_path), images=str(genome))

    def drawn(keys: list[str], seed: int) -> dict[str, Any]:
        write(folder / "desc_data.json", dict.fromkeys(keys, REWORDED))
        rows = list(dataset.rows(seed, True))
        return {row.meta["image_id"]: (row.prompt, row.chosen, row.rejected) for row in rows}

    assert drawn(["1", "2415"], 0) == drawn(["2415", "1"], 0)
    assert len({str(drawn(["1", "2415"], seed)) for seed in range(8)}) > 4


PUBLIC: dict[str, Any] = {
    "vlfeedback": VLFeedbackDataset,
    "mdpo": MdpoDataset,
    "rlhf_v": RLHFVDataset,
    "rlaif_v": RLAIFVDataset,
    "povid": PovidDataset,
    "llava_rlhf": LlavaRLHFDataset,
    "hadpo": HADPODataset,
}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_dataset_has_a_download_and_a_licence(name: str, tmp_path: Path) -> None:
    assert kinds("mmpref.datasets", "source")[name] is PUBLIC[name]
    dataset = PUBLIC[name](source=name)
    downloads = load()
    for place in dataset.inputs:
        assert place.startswith("resources/benchmarks/")
        assert Path(place).name in downloads
    assert dataset.inputs[0] == f"resources/benchmarks/{name}"
    # A folder of the user's own keeps the licence of what it is a copy of.
    dataset = PUBLIC[name](source=name, folder=str(tmp_path))
    (origin, *_) = dataset.origins
    assert origin == {
        "source": f"{downloads[name].source}, in {tmp_path}",
        "revision": None,
        "licence": downloads[name].licence,
    }
    manifest = {"source": "S", "revision": "R", "licence": "L", "files": []}
    write(tmp_path / "manifest.json", manifest)
    assert dataset.origins[0] == {"source": "S", "revision": "R", "licence": "L"}


@pytest.mark.parametrize("name", PUBLIC)
def test_missing_files_are_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write(tmp_path / "images" / "image_data.json", [])
    places = {"folder": str(tmp_path / "data"), "images": str(tmp_path / "images")}
    fields = PUBLIC[name].model_fields
    dataset = PUBLIC[name](source=name, **{key: places[key] for key in places if key in fields})
    with pytest.raises(InputError, match=rf"{tmp_path}/data.*(does not exist|has no )"):
        results(dataset)
