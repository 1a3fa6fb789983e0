"""Benchmark items: images, a question, and what is true about them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmpref.errors import InputError
from mmpref.files import replacing
from mmpref.records.images import read_image_file
from mmpref.records.pairs import read_rows
from mmpref.study.benchmarks import kinds, module_of

SETTINGS = ("random", "popular", "adversarial")

# `datasets.load_dataset("parquet")` reads its features from this key and so decodes the images.
_FEATURES = {
    "id": {"dtype": "string", "_type": "Value"},
    "images": {"feature": {"_type": "Image"}, "_type": "List"},
    "prompt": {"dtype": "string", "_type": "Value"},
    "truth": {"dtype": "string", "_type": "Value"},
}
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))),
        ("prompt", pa.string()),
        ("truth", pa.string()),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)
# With their images, more rows than this in one row group are slow to page through.
_ROWS_PER_GROUP = 500


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


def write_items(path: str | Path, items: Sequence[Item]) -> None:
    """Write `items` as Parquet that `datasets.load_dataset("parquet")` shows with images.

    Raises InputError when an id occurs twice or a truth is not one of those of `Item`.
    """
    _check(path, items)
    table = pa.table(
        {
            "id": [item.id for item in items],
            "images": [[_stored(image) for image in item.images] for item in items],
            "prompt": [item.prompt for item in items],
            "truth": [json.dumps(item.truth, ensure_ascii=False) for item in items],
        },
        schema=_SCHEMA,
    )
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=_ROWS_PER_GROUP)


def read_items(path: str | Path) -> list[Item]:
    """Return the items of a benchmark, in the order of the file.

    Raises InputError when it is no such file, lacks a column, or holds a row that `write_items`
    would refuse.
    """
    rows = read_rows(path, _SCHEMA)
    items = [_item(path, number, row) for number, row in enumerate(rows, start=1)]
    _check(path, items)
    return items


def load_image(image: bytes | Path) -> bytes:
    """Return an image of an item, encoded. Raises InputError when its file cannot be read."""
    if isinstance(image, bytes):
        return image
    try:
        return read_image_file(image)
    except InputError as error:
        raise InputError(f"benchmark image {error}; download or copy it there") from None


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
        for image in row["images"] or []
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


def _check(path: str | Path, items: Sequence[Item]) -> None:
    """Raise InputError at the first item that cannot be scored."""
    rows: dict[str, int] = {}
    for number, item in enumerate(items, start=1):
        where = f"{path}: row {number} (id {item.id!r})"
        if item.id in rows:
            raise InputError(f"{where}: id: already in row {rows[item.id]}; make ids unique")
        rows[item.id] = number
        problem = _truth_problem(item.truth)
        if problem:
            raise InputError(f"{where}: truth: {problem}")


def _truth_problem(truth: object) -> str | None:
    kind = truth.get("kind") if isinstance(truth, dict) else None
    if kind not in kinds():
        return f'not an object whose "kind" is one of {", ".join(kinds())}'
    check = getattr(module_of(str(kind), "items"), "problem", None)
    return check(truth) if check else None
