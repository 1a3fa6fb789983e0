import io
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmpref.errors import InputError
from mmpref.records.items import Item, read_items, write_items

CAPTION = {
    "kind": "caption",
    "objects": ["cup"],
    "likely": ["plate"],
    "vocabulary": ["cup", "plate", "dog"],
}
YESNO = {"kind": "yesno", "object": "dog", "label": "no", "setting": "popular"}


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(file, "PNG")
    return file.getvalue()


def items() -> list[Item]:
    return [
        Item("1", (png("red"),), "Describe the image.", CAPTION),
        Item("2", (png("red"), png("blue")), "Gibt es einen Hund? 🐕", YESNO),
        Item("3", (png("green"),), "What is this?", {"kind": "open"}),
    ]


def test_items_survive_the_file(tmp_path):
    write_items(tmp_path / "items.parquet", items())
    assert read_items(tmp_path / "items.parquet") == items()


def test_datasets_shows_the_images(tmp_path):
    datasets = pytest.importorskip("datasets")
    write_items(tmp_path / "items.parquet", items())
    loaded = datasets.load_dataset(
        "parquet",
        data_files=str(tmp_path / "items.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert [image.size for image in loaded[1]["images"]] == [(6, 4), (6, 4)]
    assert loaded[1]["images"][1].getpixel((0, 0)) == (0, 0, 255)
    assert json.loads(loaded[0]["truth"]) == CAPTION


@pytest.mark.parametrize(
    ("truth", "words"),
    [
        ({"kind": "essay"}, "one of amber, caption, chair"),
        ({**CAPTION, "objects": "cup"}, "objects is not a list"),
        ({**CAPTION, "likely": ["cup"]}, "cup both"),
        ({**CAPTION, "objects": ["cat"]}, "cat not in vocabulary"),
        ({**YESNO, "label": True}, "label is True"),
        ({**YESNO, "setting": "hard"}, "setting is 'hard'"),
    ],
)
def test_a_truth_that_cannot_be_scored_is_refused(tmp_path, truth, words):
    broken = [items()[0], replace(items()[1], truth=truth)]
    with pytest.raises(InputError, match=rf"items.parquet: row 2 \(id '2'\): truth: .*{words}"):
        write_items(tmp_path / "items.parquet", broken)
    assert list(tmp_path.iterdir()) == []


def test_an_id_that_occurs_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"row 2 .*id: already in row 1"):
        write_items(tmp_path / "items.parquet", [items()[0], items()[0]])


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "items.parquet"
    path.write_bytes(b"PAR1 no more than that")
    with pytest.raises(InputError, match=r"items\.parquet"):
        read_items(path)
    pq.write_table(pa.table({"id": ["1"], "prompt": ["?"]}), path)
    with pytest.raises(InputError, match="column images: missing"):
        read_items(path)
    with pytest.raises(InputError, match="does not exist"):
        read_items(tmp_path / "other.parquet")


def test_a_row_without_json_names_the_row(tmp_path):
    path = tmp_path / "items.parquet"
    write_items(path, items())
    table = pq.read_table(path)
    broken = table.set_column(3, "truth", pa.array(['{"kind": "open"}', "{kind: yes", "{}"]))
    pq.write_table(broken, path)
    with pytest.raises(InputError, match=r"row 2 \(id '2'\): truth is not JSON"):
        read_items(path)
