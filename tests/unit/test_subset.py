import json
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from mmpref.datasets.local import LocalDataset
from mmpref.errors import InputError
from mmpref.records.pairs import Pairs
from mmpref.records.rows import Candidate

IDS = [f"pair-{n}" for n in range(60)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n in range(60):
        file = BytesIO()
        Image.new("RGB", (8, 6), (n, 0, 0)).save(file, "PNG")
        (tmp_path / f"{n}.png").write_bytes(file.getvalue())
    return tmp_path


def write(folder: Path, ids: list[str], size: int | None, seed: int = 0, empty: str = "") -> dict:
    """Write a dataset of these rows; return its dataset.json."""
    rows = [
        {
            "id": id,
            "image": f"{id.removeprefix('pair-')}.png",
            "prompt": "What?",
            "chosen": "  " if id == empty else "A cup.",
            "rejected": "A dog.",
        }
        for id in ids
    ]
    lines = [json.dumps(row) for row in rows]
    (folder / "mine.jsonl").write_text("\n".join([*lines, "not JSON"]))
    dataset = LocalDataset(source="local", file=str(folder / "mine.jsonl"), subset=size)
    about = dataset.write(folder / "out" / "pairs.parquet", seed)
    assert about == json.loads((folder / "out" / "dataset.json").read_text())
    return about


def test_a_subset_depends_on_seed_and_ids_alone(folder: Path) -> None:
    about = write(folder, IDS, 20)
    ids = about["subset"]["ids"]
    assert len(ids) == about["pairs"] == 20
    # In the file's order, not in that of the draw.
    assert Pairs(folder / "out" / "pairs.parquet").ids == [id for id in IDS if id in ids]
    assert ids == sorted(ids)
    first = (folder / "out" / "dataset.json").read_bytes()
    assert write(folder, IDS, 20)["subset"]["ids"] == ids
    assert (folder / "out" / "dataset.json").read_bytes() == first
    assert write(folder, IDS[::-1], 20)["subset"]["ids"] == ids
    other = write(folder, IDS, 20, seed=1)["subset"]
    assert other["seed"] == 1
    assert other["ids"] != ids
    assert set(ids) < set(write(folder, IDS, 30)["subset"]["ids"])


def test_rows_that_turn_out_bad_are_made_up_for(folder: Path) -> None:
    ids = write(folder, IDS, 20)["subset"]["ids"]
    (folder / f"{ids[3].removeprefix('pair-')}.png").unlink()
    about = write(folder, IDS, 20, empty=ids[5])
    assert set(ids) - set(about["subset"]["ids"]) == {ids[3], ids[5]}
    # The two and the line that could not be read; not what was never drawn.
    assert about["pairs"] == 20
    assert about["quarantined"] == 3


def test_images_of_rows_that_are_not_drawn_stay_closed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmpref.records import folders

    opened = []
    read = folders.read_image_file

    def noted(path: Path) -> bytes:
        opened.append(path.name)
        return read(path)

    monkeypatch.setattr(folders, "read_image_file", noted)
    write(folder, IDS, 2)
    assert 2 <= len(set(opened)) < 30


def test_an_id_that_occurs_twice_is_drawn_once(folder: Path) -> None:
    about = write(folder, [*IDS[:5], *IDS[:5]], 5)
    assert about["subset"]["ids"] == IDS[:5]
    assert about["quarantined"] == 6


def test_too_few_pairs(folder: Path) -> None:
    with pytest.raises(InputError, match="has 60 valid pairs, fewer than its subset of 61"):
        write(folder, IDS, 61)
    assert not (folder / "out").exists()


def test_every_draw_is_as_likely(folder: Path) -> None:
    from collections import Counter

    from mmpref.records.subset import _number

    counts: Counter[str] = Counter()
    for seed in range(200):
        rows = [Candidate("f", n, id, [], "", "", "", "s") for n, id in enumerate(IDS)]
        counts.update(row.id for row in sorted(rows, key=lambda row: _number(row, seed))[:20])
    # 66.7 expected, standard deviation 6.7.
    assert 40 < min(counts.values()) <= max(counts.values()) < 95


def test_what_went_in_is_recorded(folder: Path) -> None:
    about = write(folder, IDS[:3], None)
    file = str(folder / "mine.jsonl")
    assert about == {
        "dataset": "local",
        "origins": [{"source": file, "revision": None, "licence": None}],
        "pairs": 3,
        "quarantined": 1,
        "skipped": {},
    }
