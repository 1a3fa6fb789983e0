"""Parquet files of rows with images: read by number, each image stored once.

A file consists of small row groups. To read a row is to read its group, so neither time nor memory
depend on the size of the file. Rows that share an image lie in the same group, where its bytes are
an entry of the column's dictionary. That moves rows of a source that does not yield them side by
side; the column `position` keeps their order.
"""

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
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

GROUPS_AT_ONCE = 4
"""How many row groups are read together where only their texts are."""

POSITION = pa.field("position", pa.int64())
IMAGES = pa.field("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())])))

T = TypeVar("T")
CACHE_BYTES = 32 * 2**20
"""Row groups kept in memory: small files are decoded once, large ones hardly gain from it."""

Row = dict[str, Any]
Images = dict[bytes, int]
"""The images embedded in a row: how many bytes each has, by its digest."""


class Rows(Sequence[T]):
    """The rows of a Parquet file by number: dictionaries with the columns of `schema`.

    Numbers follow the column `position`; in a file without it, the order of the file. Columns in
    `optional` are None in a file that lacks them. Held in memory are the row groups last
    read (`CACHE_BYTES`), one number per row and the file's footer. A slice is a view of the same
    file. A copy in another process (fork, pickle) opens the file anew; several threads must not
    share one.

    Every read raises InputError naming the file: when it is missing, damaged or of another format,
    lacks a column or has one of another type, or was changed since it was opened.
    """

    def __init__(self, path: str | Path, schema: pa.Schema, optional: Collection[str] = ()) -> None:
        self.path = Path(path)
        self._opened: tuple[int, pq.ParquetFile] | None = None
        self._cached: dict[int, pa.Table] = {}
        self._stamp: tuple[int, ...] | None = None
        with self._reading():
            self._stamp = self._now()
            with pq.ParquetFile(self.path) as file:
                present, groups = file.schema_arrow, file.metadata
                self._dictionary = list(filter(_holds_images, _leaves(file)))
            self._file(groups)
            self._missing = dict.fromkeys(set(optional) - set(present.names))
            self.columns = [name for name in schema.names if name not in self._missing]
            _check_columns(self.path, present, schema, self.columns)
            sizes = [groups.row_group(index).num_rows for index in range(groups.num_row_groups)]
            self._ends = np.cumsum(sizes, dtype=np.int64)
            self.places = np.arange(sum(sizes))
            """The row of the file that each number stands for."""
            if POSITION.name in self.columns:
                positions = self._file().read([POSITION.name], use_threads=False).column(0)
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
        return self.record(self._row(place), place)

    def record(self, row: Row, place: int) -> Any:
        """Return what a row, number `place` of the file, stands for."""
        return row

    def _row(self, place: int) -> Row:
        group = int(np.searchsorted(self._ends, place, side="right"))
        with self._reading():
            table = self._group(group)
            first = int(self._ends[group]) - len(table)
            (row,) = table.slice(place - first, 1).to_pylist()
        return self._missing | row

    def scan(self, columns: Collection[str]) -> Iterator[Row]:
        """Yield the rows with only some of their columns, in the order of the file."""
        names = [name for name in self.columns if name in columns]
        missing = {name: None for name in self._missing if name in columns}
        for first in range(0, len(self._ends), GROUPS_AT_ONCE):
            with self._reading():
                groups = range(first, min(first + GROUPS_AT_ONCE, len(self._ends)))
                table = self._file().read_row_groups(groups, names, use_threads=False)
                self._demand_rows(table, groups)
                rows = table.to_pylist()
            yield from (missing | row for row in rows)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_opened": None, "_cached": {}}

    def _file(self, footer: pq.FileMetaData | None = None) -> pq.ParquetFile:
        if self._opened is None or self._opened[0] != os.getpid():
            file = pq.ParquetFile(
                self.path,
                metadata=footer,
                read_dictionary=self._dictionary,
                page_checksum_verification=True,
            )
            self._opened = os.getpid(), file
        return self._opened[1]

    def _group(self, index: int) -> pa.Table:
        # Taken out and put back: the group that was not used for longest comes first.
        table = self._cached.pop(index, None)
        if table is None:
            file = self._file()
            table = file.read_row_group(index, self.columns, use_threads=False)
            self._demand_rows(table, range(index, index + 1))
            while self._cached and self._held() + table.get_total_buffer_size() > CACHE_BYTES:
                del self._cached[next(iter(self._cached))]
        self._cached[index] = table
        return table

    def _held(self) -> int:
        return sum(table.get_total_buffer_size() for table in self._cached.values())

    def _demand_rows(self, table: pa.Table, groups: range) -> None:
        """Arrow takes a damaged column for a short one."""
        wanted = self._ends[groups[-1]] - (self._ends[groups[0] - 1] if groups[0] else 0)
        if len(table) != wanted:
            raise ValueError(f"{len(table)} rows where {wanted} are expected")

    def _now(self) -> tuple[int, ...]:
        status = self.path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Raise what goes wrong in the block as InputError, and that the file was changed."""
        problem: Exception | None = None
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            problem = error
        try:
            changed = self._stamp is not None and self._now() != self._stamp
        except OSError:
            changed = True
        if changed:
            raise InputError(
                f"{self.path}: was changed or removed while it was in use; start again with the "
                "new file"
            ) from problem
        if isinstance(problem, FileNotFoundError):
            raise InputError(f"{self.path}: does not exist; make it, or correct the path") from None
        if problem is not None:
            raise InputError(
                f"{self.path}: cannot be read as a Parquet file ({problem}); it is damaged or of "
                "another format: remove it and make it again"
            ) from problem


def write_rows(path: str | Path, schema: pa.Schema, rows: Iterable[Row]) -> int:
    """Write rows as Parquet; return how many.

    `schema` has the columns `images` (`IMAGES`) and `position`, which is added to the rows. An
    image that several rows share is stored once, unless they are too many for a row group. Equal
    rows give equal bytes. A file that exists is replaced when all is written.
    """
    images: list[Images] = []

    def noted() -> Iterator[tuple[Row, Images]]:
        for number, row in enumerate(rows):
            images.append(_images(row))
            yield row | {POSITION.name: number}, images[-1]

    with replacing(path) as temporary:
        _write(temporary, schema, noted())
        order = _clustered(images)
        if _stored([images[number] for number in order]) < _stored(images):
            scattered: Rows[Row] = Rows(temporary, schema)
            with replacing(temporary) as clustered:
                _write(clustered, schema, ((scattered[n], images[n]) for n in order))
    return len(images)


def _write(path: Path, schema: pa.Schema, rows: Iterable[tuple[Row, Images]]) -> None:
    empty = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), empty)
    leaves = _leaves(pq.ParquetFile(pa.BufferReader(empty.getvalue())))
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
        for group in _groups(rows):
            writer.write_table(pa.Table.from_pylist([row for row, _ in group], schema))


def _leaves(file: pq.ParquetFile) -> list[str]:
    return [file.schema.column(index).path for index in range(len(file.schema.names))]


def _holds_images(leaf: str) -> bool:
    # Writers call the element of a list differently.
    return leaf.startswith("images.") and leaf.endswith(".bytes")


def _images(row: Row) -> Images:
    return {
        hashlib.blake2b(image["bytes"], digest_size=16).digest(): len(image["bytes"])
        for image in row["images"]
        if image["bytes"] is not None
    }


def _groups(rows: Iterable[tuple[Any, Images]]) -> Iterator[list[tuple[Any, Images]]]:
    """Yield the rows of each row group."""
    group: list[tuple[Any, Images]] = []
    held: Images = {}
    size = expanded = 0
    for row, images in rows:
        full = len(group) >= GROUP_ROWS or size >= GROUP_BYTES
        over = len(group) >= MOST_ROWS or size >= MOST_BYTES or expanded >= MOST_EXPANDED
        if over or (full and not images.keys() & held.keys()):
            yield group
            group, held, size, expanded = [], {}, 0, 0
        size += sum(images[image] for image in images.keys() - held.keys())
        expanded += sum(images.values())
        group.append((row, images))
        held |= images
    if group:
        yield group


def _stored(rows: Iterable[Images]) -> int:
    """Return how many bytes of images a file of such rows takes."""
    groups = _groups((None, images) for images in rows)
    return sum(sum(_union(images for _, images in group).values()) for group in groups)


def _union(parts: Iterable[Images]) -> Images:
    return {image: size for part in parts for image, size in part.items()}


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


def _check_columns(
    path: Path, present: pa.Schema, schema: pa.Schema, columns: Sequence[str]
) -> None:
    for column in map(schema.field, columns):
        where = f"{path}, column {column.name}"
        if present.get_field_index(column.name) < 0:
            raise InputError(
                f"{where}: missing; the file has {', '.join(present.names)}; "
                "rename the column or write the file with mmpref"
            )
        found = present.field(column.name).type
        if not _same_shape(found, column.type):
            raise InputError(f"{where}: must be {column.type}, is {found}; convert it")


def _same_shape(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether two types hold the same kind of values, in whatever width of offsets."""
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_list_view)
    if pa.types.is_list(wanted):
        return any(is_list(found) for is_list in lists) and _same_shape(
            found.value_type, wanted.value_type
        )
    if pa.types.is_struct(wanted):
        return (
            pa.types.is_struct(found)
            and {field.name for field in found} == {field.name for field in wanted}
            and all(_same_shape(found.field(field.name).type, field.type) for field in wanted)
        )
    if pa.types.is_string(wanted):
        return pa.types.is_string(found) or pa.types.is_large_string(found)
    if pa.types.is_binary(wanted):
        return pa.types.is_binary(found) or pa.types.is_large_binary(found)
    return found.equals(wanted)
