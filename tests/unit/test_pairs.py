"""Pairs and items that stay on disk: read by number, images stored once, damage noticed."""

import os
import pickle
import random
import tempfile
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpref.errors import InputError
from mmpref.records import parquet
from mmpref.records.items import Item, Items, write_items
from mmpref.records.pairs import Pairs, validate, write_pairs, write_valid_pairs
from mmpref.records.rows import Candidate, Pair, Quarantined, candidates, merge, shard_of


def image(number: int, size: int = 3000) -> bytes:
    """Bytes that neither compress nor repeat; only `validate` asks whether they are an image."""
    return random.Random(number).randbytes(size)


def pair(number: int, *images: int) -> Pair:
    return Pair(
        id=f"pair-{number}",
        images=tuple(map(image, images or (number,))),
        prompt="What is it?",
        chosen="A wall." + "!" * number,
        rejected="A car.",
        source="test",
        meta={"row": number},
    )


def write(path: Path, *images: int) -> list[Pair]:
    pairs = [pair(number, name) for number, name in enumerate(images)]
    write_pairs(path, pairs)
    return pairs


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups of about four images."""
    monkeypatch.setattr(parquet, "GROUP_BYTES", 10_000)
    monkeypatch.setattr(parquet, "MOST_BYTES", 100_000)


def test_pairs_are_a_sequence(tmp_path: Path, small_groups: None) -> None:
    path = tmp_path / "pairs.parquet"
    expected = write(path, *range(30))
    assert pq.ParquetFile(path).metadata.num_row_groups == 8
    pairs = Pairs(path)
    assert len(pairs) == 30
    assert list(pairs) == expected
    for number in (0, 29, -1, -30, 17, 4, 18):
        assert pairs[number] == expected[number]
    with pytest.raises(IndexError):
        pairs[30]
    assert pairs.ids == [pair.id for pair in expected]
    lengths = [len(pair.chosen) + len(pair.rejected) for pair in expected]
    assert pairs.answer_lengths.tolist() == lengths
    part = pairs[3:25:4][1:]
    assert list(part) == expected[3:25:4][1:]
    assert part.ids == pairs.ids[7:25:4]
    assert part.answer_lengths.tolist() == lengths[7:25:4]
    assert list(pairs[::-1]) == expected[::-1]
    assert [pair.images for pair in pairs.without_images()] == [()] * 30


def read_last(pairs: Pairs) -> Pair:
    return pairs[-1]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_the_same(tmp_path: Path, small_groups: None, method: str) -> None:
    expected = write(tmp_path / "pairs.parquet", *range(12))
    pairs = Pairs(tmp_path / "pairs.parquet")
    assert pairs[0] == expected[0]
    with get_context(method).Pool(2) as pool:
        assert pool.map(read_last, [pairs, pairs[:5], pairs]) == [
            expected[-1],
            expected[4],
            expected[-1],
        ]
    assert len(pickle.dumps(pairs)) < 5000  # no images travel
    assert pairs[1] == expected[1]


def stored_images(path: Path) -> list[bytes]:
    """The images in a file, one for each time that its bytes occur there."""
    data = path.read_bytes()
    return [name for name in map(image, range(40)) for _ in range(data.count(name))]


def test_a_shared_image_is_stored_once_in_any_order(tmp_path: Path, small_groups: None) -> None:
    path = tmp_path / "pairs.parquet"
    for images in ([n // 6 for n in range(120)], [n % 20 for n in range(120)]):
        expected = write(path, *images)
        assert stored_images(path) == list(map(image, range(20)))
        assert path.stat().st_size < 20 * 3000 + 40_000
        assert list(Pairs(path)) == expected
        assert Pairs(path).ids == [pair.id for pair in expected]
        assert Pairs(path).answer_lengths.tolist() == [
            len(pair.chosen) + len(pair.rejected) for pair in expected
        ]
        assert sorted(Pairs(path).without_images(), key=lambda pair: pair.meta["row"]) == [
            replace(pair, images=()) for pair in expected
        ]
    # Other readers find the order in a column.
    rows = pq.read_table(path, columns=["position", "id"]).to_pylist()
    assert [row["position"] for row in rows] != list(range(120))
    rows.sort(key=lambda row: row["position"])
    assert [row["id"] for row in rows] == [pair.id for pair in expected]
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.parquet"]


def test_too_many_rows_for_a_group_store_their_image_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pairs.parquet"
    for name, value in (("MOST_ROWS", 40), ("MOST_EXPANDED", 40 * 3000)):
        with monkeypatch.context() as context:
            context.setattr(parquet, name, value)
            expected = write(path, *[0] * 100)
        assert stored_images(path) == [image(0)] * 3
        assert list(Pairs(path)) == expected


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=2), max_size=25),
    st.integers(1, 4),
    st.integers(0, 20_000),
)
def test_any_pattern_of_shared_images_comes_back(
    patterns: list[list[int]], group_rows: int, group_bytes: int
) -> None:
    expected = [pair(number, *images) for number, images in enumerate(patterns)]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder, "pairs.parquet")
        patch.setattr(parquet, "GROUP_ROWS", group_rows)
        patch.setattr(parquet, "GROUP_BYTES", group_bytes)
        assert write_pairs(path, expected) == len(expected)
        pairs = Pairs(path)
        assert list(pairs) == expected
        assert pairs.ids == [pair.id for pair in expected]
        assert stored_images(path) == list(map(image, sorted({i for p in patterns for i in p})))


def test_datasets_loads_clustered_files(tmp_path: Path, small_groups: None) -> None:
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "pairs.parquet"
    expected = write(path, *[n % 7 for n in range(30)])
    loaded = datasets.load_dataset(
        "parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert isinstance(loaded.features["images"].feature, datasets.Image)
    loaded = loaded.sort("position").cast_column(
        "images", datasets.List(datasets.Image(decode=False))
    )
    assert loaded["id"][:] == [pair.id for pair in expected]
    assert [row["images"][0]["bytes"] for row in loaded] == [pair.images[0] for pair in expected]


def test_further_rejected_answers(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    several = replace(pair(0), more_rejected=("A dog.", "A cat."))
    write_pairs(path, [several, pair(1)])
    pairs = Pairs(path)
    assert list(pairs) == [several, pair(1)]
    assert pairs[0].answers == {
        "chosen": "A wall.",
        "rejected": "A car.",
        "rejected_2": "A dog.",
        "rejected_3": "A cat.",
    }
    assert pairs.answer_lengths[0] == len("A wall.A car.A dog.A cat.")
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["more_rejected", "position"]), path)
    assert list(Pairs(path)) == [pair(0), pair(1)]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("A dog.", "should be a list of texts (is str)"),
        (["A dog.", " "], "is empty"),
        ([3], "should be text (is int)"),
        (["A  wall."], "is the same as chosen"),
    ],
)
def test_wrong_further_answers_are_quarantined(more: object, reason: str) -> None:
    (row,) = candidates([pair(0)], "rows.jsonl")
    (result,) = validate([replace(row, more_rejected=more)])
    assert isinstance(result, Quarantined)
    assert (result.field, result.reason) == ("more_rejected", reason)
    assert result.content["more_rejected"] == more


def touched(path: Path) -> None:
    """Change one byte of the last image, and nothing that `stat` shows but the time."""
    data = path.read_bytes()
    place = data.rindex(image(29)[:50])
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def replaced(path: Path) -> None:
    write(path, *range(30))


@pytest.mark.parametrize("edit", [touched, replaced, os.unlink])
@pytest.mark.parametrize("sent", [False, True])
def test_a_file_edited_while_it_is_read(
    tmp_path: Path, small_groups: None, edit: object, sent: bool
) -> None:
    path = tmp_path / "pairs.parquet"
    write(path, *range(30))
    pairs = Pairs(path)
    assert pairs[0].id == "pair-0"
    assert callable(edit)
    edit(path)
    if sent:
        pairs = pickle.loads(pickle.dumps(pairs))
    with pytest.raises(InputError, match=r"pairs.parquet: was changed or removed while it was in"):
        pairs[29]


def test_a_damaged_row_group_in_the_middle(tmp_path: Path, small_groups: None) -> None:
    path = tmp_path / "pairs.parquet"
    expected = write(path, *range(30))
    data = path.read_bytes()
    place = data.index(image(15))
    path.write_bytes(data[: place + 5] + bytes(20) + data[place + 25 :])
    pairs = Pairs(path)  # the texts are whole
    assert pairs[0] == expected[0]
    assert pairs[29] == expected[29]
    with pytest.raises(InputError, match=r"pairs.parquet: cannot be read .*remove it and make"):
        pairs[15]
    with pytest.raises(InputError, match="cannot be read"):
        list(pairs)
    # Texts, too: the chosen answers of one group are compressed somewhere in the middle.
    chunk = pq.ParquetFile(path).metadata.row_group(4).column(6)
    assert chunk.path_in_schema == "chosen.list.element.content"
    place = chunk.data_page_offset + chunk.total_compressed_size - 8
    path.write_bytes(data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :])
    with pytest.raises(InputError, match=r"pairs.parquet: cannot be read .*remove it and make"):
        Pairs(path)


def test_shards_are_views_and_merge_in_order(tmp_path: Path, small_groups: None) -> None:
    path = tmp_path / "pairs.parquet"
    expected = write(path, *[n % 9 for n in range(20)])
    shards = []
    for number in range(3):
        shards.append(tmp_path / f"{number}.parquet")
        assert write_pairs(shards[-1], shard_of(Pairs(path), number, 3)) in (6, 7)
    assert list(merge([Pairs(shard) for shard in shards])) == expected


def test_items_share_the_mechanism(tmp_path: Path, small_groups: None) -> None:
    path = tmp_path / "items.parquet"
    truth = {"kind": "open"}
    expected = [Item(str(n), (image(n % 5), image(5)), f"Question {n}?", truth) for n in range(30)]
    expected.append(Item("file", (Path("images/a.png"), image(0)), "What?", truth))
    write_items(path, iter(expected))
    assert stored_images(path) == list(map(image, range(6)))
    items = Items(path)
    assert list(items) == expected
    assert items[-1] == expected[-1]
    assert list(items[3:9:2]) == expected[3:9:2]
    path.write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"items.parquet: was changed or removed while it was in"):
        items[0]


def test_a_written_dataset_keeps_quarantine_and_order(tmp_path: Path) -> None:
    """Clustering moves rows of the file, not pairs: rows of the quarantine count as the source."""
    from test_preferences import png

    colours = ["red", "blue", "red", "green", "blue", "red"]
    rows = [
        Candidate("rows", n, f"{n}", [png(colour)], "What?", "A." if n != 3 else "", "B.", "test")
        for n, colour in enumerate(colours, 1)
    ]
    path = tmp_path / "pairs.parquet"
    assert write_valid_pairs(path, rows) == (5, 1)
    assert Pairs(path).ids == ["1", "2", "4", "5", "6"]
