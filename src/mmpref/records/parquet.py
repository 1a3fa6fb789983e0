"""Parquet files of rows with images: read by number, each image stored once.

To read a row is to read its row group, which is small. Rows that share an image lie in the same
group, where its bytes are an entry of a dictionary; the column `position` keeps their order.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any, Self, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmpref.errors import InputError
from mmpref.files import replacing

GROUP_ROWS = 256
GROUP_BYTES = 2 * 2**20
"""A row group with so many rows, or bytes of images, ends before a row that shares no image."""

MOST_ROWS = 4 * GROUP_ROWS
MOST_BYTES = 4 * GROUP_BYTES
MOST_EXPANDED = 64 * 2**20
"""Here a row group ends anyway, its images counted for each row: other readers expand them."""

CACHE_BYTES = 32 * 2**20
"""Row groups kept in memory: small files are decoded once, large ones hardly gain from it."""

TEXT = pa.string()
IMAGE = pa.struct({"bytes": pa.binary(), "path": TEXT})

T = TypeVar("T")
Row = dict[str, Any]
Images = dict[bytes, int]
"""The images embedded in a row: how many bytes each has, by its digest."""


def schema_of(**columns: pa.DataType) -> pa.Schema:
    """Return a schema with `position` added, whose images `datasets` takes for images."""
    columns["position"] = pa.int64()
    features = {name: _feature(column) for name, column in columns.items()}
    return pa.schema(columns, {"huggingface": json.dumps({"info": {"features": features}})})


def _feature(column: pa.DataType) -> dict[str, Any]:
    if column == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_struct(column):
        return {field.name: _feature(field.type) for field in column}
    if pa.types.is_list(column):
        return {"feature": _feature(column.value_type), "_type": "List"}
    return {"dtype": str(column), "_type": "Value"}


class Rows(Sequence[T]):
    """The rows of a Parquet file by number, each as what `record` makes of it.

    Numbers follow the column `position`; in a file without it, the order of the file. A file may
    lack the columns in `optional`. In memory are the row groups last read (`CACHE_BYTES`), a number
    per row and the footer. A slice is a view of the same file; a copy in another process (fork,
    pickle) opens it anew; threads must not share one. Every read raises InputError when the file is
    missing, damaged or of another format, or was changed since it was opened.
    """

    def __init__(
        self, path: str | Path, schema: pa.Schema, optional: Collection[str] = ("position",)
    ) -> None:
        self.path = Path(path)
        self._opened: tuple[int, pq.ParquetFile] | None = None
        self._cached: dict[int, pa.Table] = {}
        self._stamp = self._now()
        with self._reading():
            footer = pq.read_metadata(self.path)
            self._dictionary = list(filter(_holds_images, _leaves(footer)))
            present = footer.schema.to_arrow_schema()
            missing = set(optional) - set(present.names)
            self._columns = [name for name in schema.names if name not in missing]
            for name in self._columns:
                where = f"{path}, column {name}"
                if name not in present.names:
                    raise InputError(
                        f"{where}: missing; the file has {', '.join(present.names)}; "
                        "rename the column or write the file with mmpref"
                    )
                found, wanted = present.field(name).type, schema.field(name).type
                if _shape(found) != _shape(wanted):
                    raise InputError(f"{where}: must be {wanted}, is {found}; convert it")
            sizes = [footer.row_group(index).num_rows for index in range(footer.num_row_groups)]
            self._starts = np.cumsum([0, *sizes])
            self.places = np.arange(sum(sizes))
            """The row of the file that each number stands for."""
            if "position" in self._columns:
                positions = self._file().read(["position"], use_threads=False).column(0)
                self.places = np.argsort(positions.fill_null(-1).to_numpy(), kind="stable")

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, key: int) -> T: ...
    @overload
    def __getitem__(self, key: slice) -> Self: ...
    def __getitem__(self, key: int | slice) -> T | Self:
        if isinstance(key, slice):
            part = object.__new__(type(self))
            vars(part).update(vars(self), places=self.places[key])
            return part
        place = int(self.places[key])
        group = int(np.searchsorted(self._starts, place, side="right")) - 1
        with self._reading():
            (row,) = self._group(group).slice(place - self._starts[group], 1).to_pylist()
        return self.record(row, place + 1)

    def record(self, row: Row, number: int) -> Any:
        """Return what a row, number `number` of the file, stands for."""
        return row

    def without_images(self) -> Iterator[T]:
        """Yield all records of the file, in its order, with their texts only."""
        texts = [name for name in self._columns if name not in ("images", "position")]
        numbers, groups = count(1), range(len(self._starts) - 1)
        for first in groups[::4]:
            with self._reading():
                rows = self._read(groups[first : first + 4], texts).to_pylist()
            yield from map(self.record, rows, numbers)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_opened": None, "_cached": {}}

    def _file(self) -> pq.ParquetFile:
        process = os.getpid()
        if self._opened is None or self._opened[0] != process:
            self._opened = (
                process,
                pq.ParquetFile(
                    self.path, read_dictionary=self._dictionary, page_checksum_verification=True
                ),
            )
        return self._opened[1]

    def _read(self, groups: range, columns: Sequence[str]) -> pa.Table:
        table = self._file().read_row_groups(groups, columns, use_threads=False)
        wanted = self._starts[groups.stop] - self._starts[groups.start]
        if len(table) != wanted:  # Arrow takes a damaged column for a short one.
            raise ValueError(f"{len(table)} rows where {wanted} are expected")
        return table

    def _group(self, index: int) -> pa.Table:
        # Taken out and put back: the group that was not used for longest comes first.
        table = self._cached.pop(index, None)
        if table is None:
            table = self._read(range(index, index + 1), self._columns)
            sizes = [kept.get_total_buffer_size() for kept in (*self._cached.values(), table)]
            while self._cached and sum(sizes) > CACHE_BYTES:
                del self._cached[next(iter(self._cached))]
                del sizes[0]
        self._cached[index] = table
        return table

    def _now(self) -> tuple[int, ...] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Raise what goes wrong in the block as InputError, and that the file was changed."""
        problem: Exception | None = None
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            problem = error
        if self._now() != self._stamp:
            raise InputError(
                f"{self.path}: was changed or removed while it was in use; start again with the "
                "new file"
            ) from problem
        if isinstance(problem, FileNotFoundError):
            raise InputError(f"{self.path}: does not exist; make it, or correct the path") from None
        if problem:
            raise InputError(
                f"{self.path}: cannot be read as a Parquet file ({problem}); it is damaged or of "
                "another format: remove it and make it again"
            ) from problem


def write_rows(path: str | Path, schema: pa.Schema, rows: Iterable[Row]) -> int:
    """Write rows as Parquet; return how many.

    `schema` is one of `schema_of` with `images`, lists of `IMAGE`. An image that several rows share
    is stored once, unless they are too many for a row group. Equal rows give equal bytes.
    """
    images: list[Images] = []

    def noted() -> Iterator[tuple[Row, Images]]:
        for number, row in enumerate(rows):
            embedded = [image["bytes"] for image in row["images"] if image["bytes"] is not None]
            images.append({blake2b(data, digest_size=16).digest(): len(data) for data in embedded})
            yield row | {"position": number}, images[-1]

    def stored(order: Iterable[int]) -> int:
        return sum(size for _, size in _groups((number, images[number]) for number in order))

    with replacing(path) as temporary:
        _write(temporary, schema, noted())
        order = _clustered(images)
        if stored(order) < stored(range(len(images))):
            scattered: Rows[Row] = Rows(temporary, schema)
            with replacing(temporary) as clustered:
                _write(clustered, schema, ((scattered[n], images[n]) for n in order))
    return len(images)


def _write(path: Path, schema: pa.Schema, rows: Iterable[tuple[Row, Images]]) -> None:
    pq.write_table(schema.empty_table(), path)  # only a file says how its leaves are called
    leaves = _leaves(pq.read_metadata(path))
    with pq.ParquetWriter(
        path,
        schema,
        # Encoded images do not compress further.
        compression={leaf: "NONE" if _holds_images(leaf) else "ZSTD" for leaf in leaves},
        # Texts hardly repeat: a dictionary and the extremes would only cost space.
        use_dictionary=["source", *filter(_holds_images, leaves)],
        dictionary_pagesize_limit=2**30,
        write_statistics=["id"],
        write_page_checksum=True,
    ) as writer:
        for group, _ in _groups(rows):
            writer.write_table(pa.Table.from_pylist(group, schema))


def _leaves(footer: pq.FileMetaData) -> list[str]:
    return [footer.schema.column(index).path for index in range(footer.num_columns)]


def _holds_images(leaf: str) -> bool:
    # Writers call the element of a list differently.
    return leaf.startswith("images.") and leaf.endswith(".bytes")


def _groups(rows: Iterable[tuple[Any, Images]]) -> Iterator[tuple[list[Any], int]]:
    """Yield the rows of each row group, and the size of its images."""
    group: list[Any] = []
    held: set[bytes] = set()
    size = expanded = 0
    for row, images in rows:
        full = len(group) >= GROUP_ROWS or size >= GROUP_BYTES
        over = len(group) >= MOST_ROWS or size >= MOST_BYTES or expanded >= MOST_EXPANDED
        if over or (full and held.isdisjoint(images)):
            yield group, size
            group, held, size, expanded = [], set(), 0, 0
        size += sum(images[image] for image in images.keys() - held)
        expanded += sum(images.values())
        group.append(row)
        held.update(images)
    if group:
        yield group, size


def _clustered(rows: Sequence[Images]) -> list[int]:
    """Return the numbers of the rows, each after one that shares an image, where there is one."""
    rows_with: dict[bytes, list[int]] = {}
    for number, images in enumerate(rows):
        for image in images:
            rows_with.setdefault(image, []).append(number)
    order: dict[int, None] = {}
    for number in range(len(rows)):
        alike = [number]
        for one in alike:  # which grows meanwhile
            if one not in order:
                order[one] = None
                for image in rows[one]:
                    alike += rows_with.pop(image, [])
    return list(order)


def _shape(column: pa.DataType) -> object:
    """Return what kind of values a type holds, in whatever width of offsets."""
    if pa.types.is_struct(column):
        return {field.name: _shape(field.type) for field in column}
    if isinstance(column, pa.ListType | pa.LargeListType | pa.ListViewType):
        return [_shape(column.value_type)]
    return str(column).removeprefix("large_")
