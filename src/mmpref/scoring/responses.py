"""Files of responses: our JSON lines, what official scorers take, and those of harnesses."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmpref.errors import InputError
from mmpref.records.items import Item
from mmpref.scoring.formats import OURS, ResponseFormat
from mmpref.scoring.harnesses import harness_rows, joined, vlmevalkit_table

_ADVICE = "responses are joined by id, never by their order: give each row an id"

_LAYOUTS = {
    "lines": "JSON lines, one object per line",
    "array": "a JSON array of objects",
    "mapping": "one JSON object, from ids to responses",
}


def read_responses(
    path: str | Path, items: Sequence[Item] = (), official: ResponseFormat = OURS
) -> list[dict[str, Any]]:
    """Return the responses in a file as `{"id", "response", ...}`, both text, in its order.

    The file is ours, as `official` says, a prediction file of VLMEvalKit (TSV, JSON) or a sample
    file of lmms-eval. Whether every item has exactly one response is not looked at here.

    Raises InputError, naming the file, the row and the field, when the file is of another format,
    a row has no id or no text, or a harness's row cannot be told to be about one of the items.
    """
    if Path(path).suffix.lower() in (".xlsx", ".xls"):
        raise InputError(
            f"{path}: Excel files are not read; save it as TSV, or run VLMEvalKit with "
            "PRED_FORMAT=tsv"
        )
    table = Path(path).suffix.lower() == ".tsv"
    layout, rows = ("array", vlmevalkit_table(path)) if table else _rows(path, official)
    if (answered := harness_rows(path, rows)) is not None:
        if not items:
            raise InputError(
                f"{path}: is a file of an evaluation harness, whose rows are joined to the "
                "benchmark's items, and this benchmark has no fixed ones; give JSON lines of id "
                "and response"
            )
        ids = joined(path, answered, items)
        return [{"id": id, "response": row.response} for id, row in zip(ids, answered, strict=True)]
    _check_layout(path, layout, rows, official)
    texts = ("response", *official.text)
    find = official.find(items) if official.find else lambda row: None
    responses = []
    for place, row in rows:
        where = f"{path}: {place}"
        field = next((field for field in texts if field in row), None)
        if field is None:
            raise InputError(f"{where}: no response; write it as {' or '.join(texts)}")
        if not isinstance(row[field], str):
            raise InputError(
                f"{where}: {field} is {row[field]!r:.40}, not a text; write an empty text where "
                "the model said nothing"
            )
        kept = {"ended": row["ended"]} if "ended" in row else {}
        id = find(row) or _id(where, row, official)
        responses.append({"id": id, "response": row[field], **kept})
    missing = sum(response["id"] is None for response in responses)
    asked = official.questions and all(isinstance(row.get("question"), str) for _, row in rows)
    if missing and not (asked and missing == len(responses)):
        raise InputError(f"{path}: {missing} of {len(responses)} rows have no id; {_ADVICE}")
    if missing:
        _check_questions(path, rows, items)
        return [one | {"id": item.id} for one, item in zip(responses, items, strict=True)]
    return responses


def _id(where: str, row: dict[str, Any], official: ResponseFormat) -> str | None:
    """Return the id of the item that a row is about; None when it has no id."""
    field = next((field for field in (*official.id, "id") if field in row), None)
    if field is None:
        return None
    if isinstance(row[field], bool) or not isinstance(row[field], str | int):
        raise InputError(f"{where}: {field} is {row[field]!r:.40}; write a number or a text")
    try:
        return official.normal_id(str(row[field]))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _check_questions(
    path: str | Path, rows: Sequence[tuple[str, dict[str, Any]]], items: Sequence[Item]
) -> None:
    """Raise InputError unless the rows' questions are the items', in their order.

    POPE's scorer takes `{"question", "answer"}` lines and trusts their order.
    """
    if len(rows) != len(items):
        raise InputError(f"{path}: {len(rows)} rows without ids, and {len(items)} items; {_ADVICE}")
    other = [
        place
        for (place, row), item in zip(rows, items, strict=True)
        if not row["question"].strip().casefold().startswith(item.prompt.casefold())
    ]
    if other:
        raise InputError(
            f"{path}: rows without ids, and {len(other)} of {len(items)} questions are not the "
            f"benchmark's at that place (first: {other[0]}); {_ADVICE}"
        )


def _rows(
    path: str | Path, official: ResponseFormat
) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    """Return the layout of a file, and its rows, each with its place in words."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text ({error}); save it as UTF-8") from None
    values = _values(path, text)
    layout, rows = "lines", [(f"line {line}", value) for line, value in values]
    match [value for _, value in values]:
        case [list(elements)]:
            layout, rows = "array", [(f"element {n}", row) for n, row in enumerate(elements, 1)]
        # The captions of CHAIR's own scorer lie one level down.
        case [{"imgToEval": dict(captions)}] if "mapping" in official.layout:
            layout, rows = "mapping", [(f"imgToEval {key!r}", row) for key, row in captions.items()]
        case [dict(texts)] if "mapping" in official.layout and not (
            {"id", "response", "doc_id", *official.id} & texts.keys()
        ):
            entries = [(key, {"id": key, "response": text}) for key, text in texts.items()]
            layout, rows = "mapping", [(f"entry {key!r}", row) for key, row in entries]
    for place, row in rows:
        if not isinstance(row, dict):
            raise InputError(f"{path}: {place}: {row!r:.40} is not an object with id and response")
    return layout, rows


def _check_layout(
    path: str | Path,
    layout: str,
    rows: Sequence[tuple[str, dict[str, Any]]],
    official: ResponseFormat,
) -> None:
    """Raise InputError unless the file is laid out as `official` says, or as ours are."""
    ours = layout == "lines" and all("id" in row and "response" in row for _, row in rows)
    if layout not in official.layout and not ours:
        expected = " or ".join(_LAYOUTS[name] for name in official.layout)
        raise InputError(
            f"{path}: is {_LAYOUTS[layout]}, where {expected} is expected; convert it, or write "
            'our JSON lines {"id": ..., "response": ...}'
        )


def _values(path: str | Path, text: str) -> list[tuple[int, Any]]:
    """Return the JSON values in a text with their lines; one may span several lines."""
    decode, place, line = json.JSONDecoder().raw_decode, 0, 1
    values: list[tuple[int, Any]] = []
    while begin := re.compile(r"\S").search(text, place):
        line += text.count("\n", place, begin.start())
        try:
            value, place = decode(text, begin.start())
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}: line {error.lineno}: not JSON ({error.msg}); write one object per line"
            ) from None
        values.append((line, value))
        line += text.count("\n", begin.start(), place)
    return values
