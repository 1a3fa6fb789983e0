"""What reading the benchmarks' own files takes: JSON, and fields of its rows."""

import json
from pathlib import Path
from typing import Any

from mmpref.errors import InputError


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, or of JSON lines as a list.

    Raises InputError when it is missing or is not such a file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); download the benchmark, or give its folder"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not JSON ({error}); download it again") from None
    if path.suffix == ".json":
        return _decoded(path, 1, text)
    lines = enumerate(text.split("\n"), start=1)
    return [_decoded(path, number, line) for number, line in lines if line.strip()]


def _decoded(path: Path, line: int, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line += error.lineno - 1
        raise InputError(f"{path}: line {line}: is not JSON ({error}); download it again") from None


def text_field(where: str, row: Any, field: str) -> str:
    """Return a field of a row that holds text. Raises InputError if it does not."""
    value = row.get(field) if isinstance(row, dict) else None
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}: {field} is {value!r:.40}, not a text; download the file again")
    return value


def texts_field(where: str, row: Any, field: str) -> list[str]:
    """Return a field of a row that holds a list of texts. Raises InputError if it does not."""
    value = row.get(field) if isinstance(row, dict) else None
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value) or not value:
        raise InputError(
            f"{where}: {field} is {value!r:.40}, not a list of texts; download the file again"
        )
    return value
