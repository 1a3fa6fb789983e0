"""Results that survive being killed: rows stored one by one, found again by the next run."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self


class Journal:
    """A file of JSON lines that survives being killed: `rows` holds what an earlier run stored.

    The first line names what the rows belong to; with another `key` the file is begun anew. A last
    line that was only half written is removed.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        header = json.dumps({"journal of": key}).encode() + b"\n"
        content = path.read_bytes() if path.exists() else b""
        whole = 0
        if content.startswith(header):
            whole = len(header)
            for line in content[whole:].splitlines(keepends=True):
                row = _row_of(line)
                if row is None:
                    break
                self.rows.append(row)
                whole += len(line)
        self._file: IO[bytes] = path.open("r+b" if content else "wb")
        self._file.truncate(whole)
        self._file.seek(whole)
        if not whole:
            self._write(header)

    def append(self, rows: Sequence[dict[str, Any]]) -> None:
        """Store rows; they are on disk when this returns."""
        self._write(b"".join(json.dumps(row).encode() + b"\n" for row in rows))

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def _row_of(line: bytes) -> dict[str, Any] | None:
    """Return the row in a line, None if the line is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def key_of(path: Path) -> str | None:
    """Return the key of a journal; None where there is no journal, or none that was begun whole."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        row = _row_of(file.readline())
    return str(row["journal of"]) if row and "journal of" in row else None
