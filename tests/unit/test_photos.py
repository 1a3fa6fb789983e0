import json
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmpref.benchmarks.prompts import DatasetPrompts
from mmpref.datasets.local import read_local
from mmpref.errors import InputError
from mmpref.records import photos
from mmpref.records.images import open_image
from mmpref.records.items import write_items
from mmpref.records.pairs import Pairs, write_pairs, write_valid_pairs
from mmpref.records.photos import write_photos
from mmpref.records.rows import Pair
from mmpref.scoring.verdicts import score

PAIRS = Path(__file__).parents[2] / "config/photos/pairs.jsonl"
QUESTIONS = PAIRS.with_name("questions.jsonl")
ROWS = [json.loads(line) for line in PAIRS.read_text().splitlines()]


@pytest.fixture
def pictures(
    tmp_path: Path, picture: Callable[..., Image.Image], monkeypatch: pytest.MonkeyPatch
) -> dict[str, Path]:
    """Random pictures under the real names, so that no test needs the packages they come with."""
    files = {}
    for seed, row in enumerate(ROWS):
        name = Path(row["image"]).name.partition(".")[0]
        files[name] = tmp_path / f"{name}.png"
        picture(seed).save(files[name])
    monkeypatch.setattr(photos, "_pictures", lambda: files)
    return files


def test_the_pairs_are_worth_training_on() -> None:
    assert len(ROWS) >= 14
    assert sum(row["chosen"].startswith(("Yes,", "No,")) for row in ROWS) >= 2
    for row in ROWS:
        lengths = len(row["chosen"]), len(row["rejected"])
        assert max(lengths) < 1.4 * min(lengths), row["id"]
        if not row["chosen"].startswith(("Yes,", "No,")):
            assert 2 <= len(re.findall(r"\.(?= |$)", row["chosen"])) <= 4, row["id"]


def test_every_kind_of_file_is_there_and_none_is_quarantined(
    tmp_path: Path, pictures: dict[str, Path]
) -> None:
    folder = tmp_path / "photos"
    write_photos([PAIRS], folder)
    kinds = set()
    for row in ROWS:
        with Image.open(folder / row["image"]) as image:
            kinds.add((image.format, image.mode))
    assert kinds >= {
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("PNG", "I;16"),
        ("TIFF", "I;16"),
        ("WEBP", "RGB"),
        ("GIF", "P"),
    }
    path = tmp_path / "pairs.parquet"
    assert write_valid_pairs(path, read_local(folder / "pairs.jsonl")) == (len(ROWS), 0)
    sizes = {}
    for pair, row in zip(list(Pairs(path)), ROWS, strict=True):
        assert (pair.id, pair.chosen) == (row["id"], row["chosen"])
        sizes[Path(row["image"]).name] = open_image(pair.images[0]).size
    assert sizes["china.large.jpg"] == (4096, 2731)
    assert sizes["coffee.8x6.png"] == (8, 6)
    assert sizes["gravel.1x1.png"] == (1, 1)


def test_crops_say_the_same_of_a_part_of_the_picture(
    tmp_path: Path, pictures: dict[str, Path]
) -> None:
    folder = tmp_path / "photos"
    write_photos([PAIRS], folder, crops=2)
    path = tmp_path / "pairs.parquet"
    assert write_valid_pairs(path, read_local(folder / "pairs.jsonl")) == (3 * len(ROWS), 0)
    first, *crops = list(Pairs(path))[:3]
    assert [one.id for one in crops] == ["1-astronaut", "2-astronaut"]
    assert {one.chosen for one in crops} == {first.chosen}
    whole, *parts = (open_image(one.images[0]).size for one in (first, *crops))
    for part in parts:
        for side, of in zip(part, whole, strict=True):
            assert 0.78 * of < side < 0.97 * of
    assert crops[0].images != crops[1].images
    pixel = next(one for one in Pairs(path) if one.id == "2-gravel-pixel")
    assert open_image(pixel.images[0]).size == (1, 1)


def test_the_questions_are_a_benchmark(tmp_path: Path, pictures: dict[str, Path]) -> None:
    folder = tmp_path / "photos"
    write_photos([PAIRS, QUESTIONS], folder)
    path = tmp_path / "pairs.parquet"
    rows = read_local(folder / "questions.jsonl", require_rejected=False)
    kept, quarantined = write_valid_pairs(path, rows, require_rejected=False)
    assert (kept >= 20, quarantined) == (True, 0)
    source = DatasetPrompts(source="dataset", dataset="questions", yesno=True)
    items = list(source.make_items(0, {"pairs": path}))
    write_items(tmp_path / "items.parquet", items)
    labels = [item.truth["label"] for item in items]
    assert labels.count("yes") == labels.count("no") == kept / 2
    scores = score(items, [{"id": item.id, "response": "Yes, it is."} for item in items])
    assert "random/items" not in scores.table
    values = {name: one.compute(scores.table.sum()) for name, one in scores.metrics.items()}
    assert (values["accuracy"], values["recall"], values["yes"]) == (0.5, 1, 1)
    assert scores.table["expected"][0] == "True answer: yes"


def test_a_question_without_yes_or_no_is_named(
    tmp_path: Path, picture: Callable[..., Image.Image]
) -> None:
    path, image = tmp_path / "pairs.parquet", BytesIO()
    picture(0).save(image, "PNG")
    write_pairs(path, [Pair("7", (image.getvalue(),), "Is it?", "Nobody knows.", "Yes.", "mine")])
    source = DatasetPrompts(source="dataset", dataset="questions", yesno=True)
    with pytest.raises(
        InputError, match=r"pairs.parquet: pair 7: .*'Nobody knows.' does not begin"
    ):
        list(source.make_items(0, {"pairs": path}))


def test_what_a_kind_does_to_the_file_is_undone_when_it_is_read(
    tmp_path: Path, pictures: dict[str, Path]
) -> None:
    names = ["rocket.exif.png", "rocket.rgba.png", "rocket.gray16.png", "rocket.gray.png"]
    pairs = tmp_path / "some.jsonl"
    rows = [{"id": name, "image": f"images/{name}"} for name in names]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_photos([pairs], tmp_path / "photos")
    turned, rgba, sixteen, gray = (
        open_image((tmp_path / "photos/images" / name).read_bytes()) for name in names
    )
    picture = Image.open(pictures["rocket"])
    grey = picture.convert("L").convert("RGB")
    for found, expected in ((turned, picture), (rgba, picture), (sixteen, grey), (gray, grey)):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    with Image.open(BytesIO((tmp_path / "photos/images" / names[0]).read_bytes())) as lying:
        assert lying.size == picture.size[::-1]


@pytest.mark.parametrize("name", ["images/unicorn.jpg", "images/rocket.sepia.jpg"])
def test_unknown_names_are_refused(tmp_path: Path, pictures: dict[str, Path], name: str) -> None:
    pairs = tmp_path / "some.jsonl"
    pairs.write_text(json.dumps({"image": name}) + "\n")
    with pytest.raises(InputError, match=f"some.jsonl, row 1, image: {name} must be"):
        write_photos([pairs], tmp_path / "photos")
    assert not (tmp_path / "photos").exists()


def test_a_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos, "SOURCES", {"no_such_package": "data"})
    with pytest.raises(InputError, match="package no_such_package, which is not installed"):
        write_photos([PAIRS], tmp_path / "photos")
