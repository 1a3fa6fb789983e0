import json
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmpref.datasets.local import read_local
from mmpref.errors import InputError
from mmpref.records import photos
from mmpref.records.images import open_image
from mmpref.records.pairs import Pairs, write_valid_pairs
from mmpref.records.photos import write_photos

PAIRS = Path(__file__).parents[2] / "config/photos/pairs.jsonl"
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
    write_photos(PAIRS, folder)
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


def test_what_a_kind_does_to_the_file_is_undone_when_it_is_read(
    tmp_path: Path, pictures: dict[str, Path]
) -> None:
    names = ["rocket.exif.png", "rocket.rgba.png", "rocket.gray16.png", "rocket.gray.png"]
    pairs = tmp_path / "some.jsonl"
    pairs.write_text("".join(json.dumps({"image": f"images/{name}"}) + "\n" for name in names))
    write_photos(pairs, tmp_path / "photos")
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
        write_photos(pairs, tmp_path / "photos")
    assert not (tmp_path / "photos").exists()


def test_a_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos, "SOURCES", {"no_such_package": "data"})
    with pytest.raises(InputError, match="package no_such_package, which is not installed"):
        write_photos(PAIRS, tmp_path / "photos")
