"""Files of answers: our JSON lines, and what the benchmarks' official scorers take."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmpref.errors import InputError
from mmpref.records.items import Item
from mmpref.scoring.formats import OURS, AnswerFormat

_NOT_SPACE = re.compile(r"\S")

_ADVICE = "answers are joined by id, never by their order: give each row an id"

_LAYOUTS = {
    "lines": "JSON lines, one object per line",
    "array": "a JSON array of objects",
    "mapping": "one JSON object, from ids to answers",
}


def read_answers(
    path: str | Path, items: Sequence[Item] = (), official: AnswerFormat = OURS
) -> list[dict[str, Any]]:
    """Return the answers in a file as `{"id", "response", ...}`, both text, in its order.

    Whether every item has exactly one is not looked at here.

    Raises InputError, naming the file, the row and the field, when the file is not JSON, has
    another layout, or a row has no id or no text.
    """
    rows = _rows(path, official)
    texts = ("response", *official.text)
    find = official.find(items) if official.find else None
    answers = []
    for number, row in rows:
        where = f"{path}: {number}"
        found = next((field for field in texts if field in row), None)
        if found is None:
            raise InputError(f"{where}: no answer; write it as {' or '.join(texts)}")
        if not isinstance(row[found], str):
            raise InputError(
                f"{where}: {found} is {row[found]!r:.40}, not a text; write an empty text where "
                "the model said nothing"
            )
        kept = {"ended": row["ended"]} if "ended" in row else {}
        id = (find(row) if find else None) or _id(where, row, official)
        answers.append({"id": id, "response": row[found], **kept})
    missing = sum(answer["id"] is None for answer in answers)
    asked = official.questions and all(isinstance(row.get("question"), str) for _, row in rows)
    if missing and not (asked and missing == len(answers)):
        raise InputError(f"{path}: {missing} of {len(answers)} rows have no id; {_ADVICE}")
    return _by_question(path, rows, answers, items) if missing else answers


def _id(where: str, row: dict[str, Any], official: AnswerFormat) -> str | None:
    """Return the id of the item that a row answers; None when it has no id."""
    field = next((field for field in (*official.id, "id") if field in row), None)
    if field is None:
        return None
    value = row[field]
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"{where}: {field} is {value!r:.40}; write a number or a text")
    try:
        return official.normal_id(str(value))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _by_question(
    path: str | Path,
    rows: Sequence[tuple[str, dict[str, Any]]],
    answers: list[dict[str, Any]],
    items: Sequence[Item],
) -> list[dict[str, Any]]:
    """Return answers without ids joined to the items, if their questions are the items' in order.

    POPE's scorer takes `{"question", "answer"}` lines and trusts their order. Here every question
    must be the item's, so that a file of another version or order is seen.
    """
    if len(answers) != len(items):
        raise InputError(
            f"{path}: {len(answers)} rows without ids, and {len(items)} items; {_ADVICE}"
        )
    other = [
        number
        for (number, row), item in zip(rows, items, strict=True)
        if not row["question"].strip().casefold().startswith(item.prompt.casefold())
    ]
    if other:
        raise InputError(
            f"{path}: rows without ids, and {len(other)} of {len(items)} questions are not the "
            f"benchmark's at that place (first: {other[0]}); {_ADVICE}"
        )
    return [answer | {"id": item.id} for answer, item in zip(answers, items, strict=True)]


def _rows(path: str | Path, official: AnswerFormat) -> list[tuple[str, dict[str, Any]]]:
    """Return the rows of a file, each with its place in words."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error}); save it as UTF-8") from None
    values = _values(path, text)
    if len(values) == 1 and isinstance(values[0][1], list):
        layout, found = "array", [(f"element {n}", v) for n, v in enumerate(values[0][1], 1)]
    elif len(values) == 1 and "mapping" in official.layout and _is_mapping(values[0][1], official):
        layout, found = "mapping", _pairs(values[0][1])
    else:
        layout, found = "lines", [(f"line {line}", value) for line, value in values]
    for place, row in found:
        if not isinstance(row, dict):
            raise InputError(f"{path}: {place}: {row!r:.40} is not an object with id and response")
    ours = layout == "lines" and all("id" in row and "response" in row for _, row in found)
    if layout not in official.layout and not ours:
        expected = " or ".join(_LAYOUTS[name] for name in official.layout)
        raise InputError(
            f"{path}: is {_LAYOUTS[layout]}, where {expected} is expected; convert it, or write "
            'our JSON lines {"id": ..., "response": ...}'
        )
    return found


def _is_mapping(value: Any, official: AnswerFormat) -> bool:
    """Return whether a value is more than a single row."""
    return isinstance(value, dict) and not {"id", "response", *official.id} & value.keys()


def _pairs(value: dict[str, Any]) -> list[tuple[str, Any]]:
    # The captions of CHAIR's own scorer lie one level down.
    if isinstance(value.get("imgToEval"), dict):
        return [(f"imgToEval {key!r}", row) for key, row in value["imgToEval"].items()]
    return [(f"entry {key!r}", {"id": key, "response": text}) for key, text in value.items()]


def _values(path: str | Path, text: str) -> list[tuple[int, Any]]:
    """Return the JSON values in a text with their lines; one may span several lines."""
    decoder, place, line = json.JSONDecoder(), 0, 1
    values: list[tuple[int, Any]] = []
    while begin := _NOT_SPACE.search(text, place):
        line += text.count("\n", place, begin.start())
        try:
            value, place = decoder.raw_decode(text, begin.start())
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}: line {error.lineno}: not JSON ({error.msg}); write one object per line"
            ) from None
        values.append((line, value))
        line += text.count("\n", begin.start(), place)
    return values
