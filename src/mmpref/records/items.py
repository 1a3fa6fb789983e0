"""Benchmark items: images, a question, and what is true about them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmpref.errors import InputError
from mmpref.records.images import read_image_file
from mmpref.records.parquet import IMAGES, POSITION, Rows, write_rows
from mmpref.study.benchmarks import kinds, module_of

SETTINGS = ("random", "popular", "adversarial")

# `datasets.load_dataset("parquet")` reads its features from this key and so decodes the images.
_FEATURES = {
    "id": {"dtype": "string", "_type": "Value"},
    "images": {"feature": {"_type": "Image"}, "_type": "List"},
    "prompt": {"dtype": "string", "_type": "Value"},
    "truth": {"dtype": "string", "_type": "Value"},
    "position": {"dtype": "int64", "_type": "Value"},
}
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        IMAGES,
        ("prompt", pa.string()),
        ("truth", pa.string()),
        POSITION,
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


@dataclass(frozen=True)
class Item:
    """One question of a benchmark.

    `images` holds encoded image files (PNG, JPEG, ...), or the paths of such files, relative to
    where the workflow runs. `truth["kind"]` says how the response is scored: the folder of
    `mmpref.benchmarks` of that name, whose module `items` says what else is in `truth`; often
    `image`, the image's file name.
    """

    id: str
    images: tuple[bytes | Path, ...]
    prompt: str
    truth: dict[str, Any]


def write_items(path: str | Path, items: Iterable[Item]) -> None:
    """Write `items` as Parquet that `datasets.load_dataset("parquet")` shows with images.

    Raises InputError when an id occurs twice or a truth is not one of those of `Item`.
    """
    check = _Check(path)
    write_rows(path, _SCHEMA, (_row(check(item)) for item in items))


class Items(Rows[Item]):
    """The items of a benchmark by number, read when they are asked for, as `Pairs` are.

    Opening raises InputError when it cannot be read as one, lacks a column, or holds a text that
    `write_items` would refuse; reading an item, when its image is neither there nor named.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, _SCHEMA, optional=["position"])
        check = _Check(path)
        for place, row in enumerate(self.scan(["id", "prompt", "truth"])):
            check(self.record(row, place))

    def record(self, row: dict[str, Any], place: int) -> Item:
        """Return the item that a row holds; without its images when they were not read."""
        return _item(self.path, place + 1, row)


def read_items(path: str | Path) -> list[Item]:
    """Return the items of a benchmark, all in memory: see `Items`."""
    return list(Items(path))


def load_image(image: bytes | Path) -> bytes:
    """Return an image of an item, encoded. Raises InputError when its file cannot be read."""
    if isinstance(image, bytes):
        return image
    try:
        return read_image_file(image)
    except InputError as error:
        raise InputError(f"benchmark image {error}; download or copy it there") from None


def _row(item: Item) -> dict[str, Any]:
    return {
        "id": item.id,
        "images": [_stored(image) for image in item.images],
        "prompt": item.prompt,
        "truth": json.dumps(item.truth, ensure_ascii=False),
    }


def _stored(image: bytes | Path) -> dict[str, Any]:
    if isinstance(image, bytes):
        return {"bytes": image, "path": None}
    return {"bytes": None, "path": image.as_posix()}


def _item(path: str | Path, number: int, row: dict[str, Any]) -> Item:
    for field in ("id", "prompt", "truth"):
        if not isinstance(row[field], str):
            raise InputError(f"{path}: row {number}: {field} is missing; write a text")
    images = [
        image and (image["bytes"] or (Path(image["path"]) if image["path"] else None))
        for image in row.get("images") or []
    ]
    if not all(images):
        raise InputError(
            f"{path}: row {number} (id {row['id']!r}): images: an image without bytes or path; "
            "embed the image file, or write where it lies"
        )
    try:
        truth = json.loads(row["truth"])
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: row {number} (id {row['id']!r}): truth is not JSON "
            f"({error}); write an object with a kind"
        ) from None
    return Item(row["id"], tuple(filter(None, images)), row["prompt"], truth)


class _Check:
    """Returns items in turn, or raises InputError at the first that cannot be scored."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._rows: dict[str, int] = {}

    def __call__(self, item: Item) -> Item:
        row = len(self._rows) + 1
        first = self._rows.setdefault(item.id, row)
        where = f"{self._path}: row {row} (id {item.id!r})"
        if first != row:
            raise InputError(f"{where}: id: already in row {first}; make ids unique")
        problem = _truth_problem(item.truth)
        if problem:
            raise InputError(f"{where}: truth: {problem}")
        return item


def _truth_problem(truth: object) -> str | None:
    kind = truth.get("kind") if isinstance(truth, dict) else None
    if kind not in kinds():
        return f'not an object whose "kind" is one of {", ".join(kinds())}'
    check = getattr(module_of(str(kind), "items"), "problem", None)
    return check(truth) if check else None
