"""Benchmark items: images, a question, and what is true about them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmpref.errors import InputError
from mmpref.records.images import read_image_file
from mmpref.records.parquet import IMAGE, TEXT, Rows, schema_of, write_rows
from mmpref.study.benchmarks import kinds, module_of

SETTINGS = ("random", "popular", "adversarial")

_SCHEMA = schema_of(id=TEXT, images=pa.list_(IMAGE), prompt=TEXT, truth=TEXT)


@dataclass(frozen=True)
class Item:
    """One question of a benchmark.

    `images` holds encoded image files, or their paths, relative to where the workflow runs.
    `truth["kind"]` is the folder of `mmpref.benchmarks` that scores the response; its module
    `items` says what else is in `truth`, often `image`, the image's file name.
    """

    id: str
    images: tuple[bytes | Path, ...]
    prompt: str
    truth: dict[str, Any]


def write_items(path: str | Path, items: Iterable[Item]) -> None:
    """Write `items` as Parquet that `datasets.load_dataset("parquet")` shows with images.

    Raises InputError when an id occurs twice or a truth is not one of those of `Item`.
    """
    write_rows(path, _SCHEMA, map(_row, _checked(path, items)))


class Items(Rows[Item]):
    """The items of a benchmark by number, read when they are asked for, as `Pairs` are.

    Opening raises InputError when the file cannot be read, or holds what `write_items` refuses;
    reading an item, when its image is neither there nor named.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path, _SCHEMA)
        for _ in _checked(path, self.without_images()):
            pass

    def record(self, row: dict[str, Any], number: int) -> Item:
        """Return the item that a row holds; without its images when they were not read."""
        where = f"{self.path}: row {number}"
        for field in ("id", "prompt", "truth"):
            if row[field] is None:
                raise InputError(f"{where}: {field} is missing; write a text")
        where += f" (id {row['id']!r})"
        images = []
        for image in row.get("images") or []:
            if not image or not (image["bytes"] or image["path"]):
                raise InputError(
                    f"{where}: images: an image without bytes or path; embed the image file, or "
                    "write where it lies"
                )
            images.append(image["bytes"] or Path(image["path"]))
        try:
            truth = json.loads(row["truth"])
        except json.JSONDecodeError as error:
            raise InputError(
                f"{where}: truth is not JSON ({error}); write an object with a kind"
            ) from None
        return Item(row["id"], tuple(images), row["prompt"], truth)


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
    images = [
        {"bytes": image, "path": None}
        if isinstance(image, bytes)
        else {"bytes": None, "path": image.as_posix()}
        for image in item.images
    ]
    return vars(item) | {"images": images, "truth": json.dumps(item.truth, ensure_ascii=False)}


def _checked(path: str | Path, items: Iterable[Item]) -> Iterator[Item]:
    """Yield items in turn; raises InputError at the first that cannot be scored."""
    rows: dict[str, int] = {}
    for row, item in enumerate(items, 1):
        where = f"{path}: row {row} (id {item.id!r})"
        first = rows.setdefault(item.id, row)
        if first != row:
            raise InputError(f"{where}: id: already in row {first}; make ids unique")
        kind = item.truth.get("kind") if isinstance(item.truth, dict) else None
        if kind not in kinds():
            problem = f'not an object whose "kind" is one of {", ".join(kinds())}'
        else:
            check = getattr(module_of(str(kind), "items"), "problem", None)
            problem = check(item.truth) if check else ""
        if problem:
            raise InputError(f"{where}: truth: {problem}")
        yield item
