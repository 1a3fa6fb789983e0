"""Results that survive being killed: rows stored one by one, found again by the next run."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

_KEY = "journal of"


class Journal:
    """A file of JSON lines that survives being killed: `rows` holds what an earlier run stored.

    The first line names what the rows belong to; with another `key` the file is begun anew. A last
    line that was only half written is removed.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        lines = path.read_bytes().splitlines(keepends=True)
        rows = list(_rows_of(lines))
        whole = len(rows) if rows[:1] == [{_KEY: key}] else 0
        self.rows = rows[1:whole]
        self._file = path.open("r+b")
        self._file.seek(sum(map(len, lines[:whole])))
        self._file.truncate()
        if not whole:
            self.append([{_KEY: key}])

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Store rows; they are on disk when this returns."""
        self._file.write(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def key_of(path: Path) -> str | None:
    """Return the key of a journal; None where there is no journal, or none that was begun whole."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        return next(_rows_of(file), {}).get(_KEY)


def _rows_of(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the row in each line, up to the first line that is not whole."""
    for line in lines:
        try:
            row = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            return
        if not isinstance(row, dict):
            return
        yield row
