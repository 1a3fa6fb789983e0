"""Responses in the files of two evaluation harnesses, VLMEvalKit and lmms-eval: read and written.

Their rows are numbered by their own copies of a benchmark. A row is therefore joined to an item by
id and question, by image and question, or by a question that is asked once; never by its place.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mmpref.errors import InputError
from mmpref.files import replacing
from mmpref.progress import say
from mmpref.records.items import Item

Format = Literal["vlmevalkit-tsv", "vlmevalkit-json", "lmms-eval"]

NO_ANSWER = "Failed to obtain answer"
"""What VLMEvalKit writes where the model raised an error."""

_POPE = ("accuracy", "precision", "recall", "f1_score", "yes_ratio")


@dataclass(frozen=True)
class HarnessRow:
    """A row of a harness: its `place` in words, what it says about the item, and the response."""

    place: str
    id: str | None
    question: str | None
    image: str | None
    response: str


def vlmevalkit_table(path: str | Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the rows of a prediction file in TSV, each with its place in words.

    Raises InputError when the file is not such a table.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, delimiter="\t", strict=True)
            rows = [(f"row {number}", row) for number, row in enumerate(table, 1)]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not a TSV file in UTF-8 ({error}); save it as one") from None
    for place, row in rows:
        if None in row or None in row.values():
            raise InputError(f"{path}: {place}: has not as many fields as the header; save it anew")
    columns = rows[0][1].keys() if rows else ()
    for name in ("index", "prediction"):
        if rows and name not in columns:
            raise InputError(
                f"{path}: has no column {name}; give VLMEvalKit's prediction file, which has "
                "index, question and prediction"
            )
    return rows


def harness_rows(
    path: str | Path, rows: Sequence[tuple[str, dict[str, Any]]]
) -> list[HarnessRow] | None:
    """Return what the rows of a harness say; None when they are not those of one.

    Raises InputError when a row has no response, or several.
    """
    for fields, read in (
        ({"index", "prediction"}, _vlmevalkit),
        ({"doc_id", "filtered_resps"}, _lmms_eval),
    ):
        if rows and all(fields <= row.keys() for _, row in rows):
            return [read(f"{path}: {place}", place, row) for place, row in rows]
    return None


def joined(path: str | Path, rows: Iterable[HarnessRow], items: Sequence[Item]) -> list[str]:
    """Return the id of the item that each row is about.

    Raises InputError, naming the row, when there is none, or several.
    """
    by_id: dict[str, list[Item]] = defaultdict(list)
    by_question: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_question[_normal(item.prompt)].append(item)
        # Of POPE's settings together, ids are SETTING/ID.
        for id in {item.id, item.id.rpartition("/")[2]}:
            by_id[id].append(item)
    ids = []
    for row in rows:
        same_id = by_id.get(row.id or "", [])
        found = [one for one in same_id if _asks(row, one) and _shows(row, one)]
        if not found and row.question is not None:
            first_line = row.question.strip().partition("\n")[0]
            asked = (by_question.get(_normal(text), []) for text in (row.question, first_line))
            found = [one for one in next(filter(None, asked), []) if _shows(row, one)]
        if len(found) != 1:
            where = f"{path}: {row.place} (id {row.id}, question {row.question!r:.60})"
            if not found:
                raise InputError(
                    f"{where}: no item of the benchmark has this id and question; score it as the "
                    "benchmark that was answered"
                )
            some = ", ".join(one.id for one in found[:3]) + (", ..." if len(found) > 3 else "")
            raise InputError(
                f"{where}: may be about {len(found)} items ({some}), the file does not say which; "
                "score a single setting, or give each row the item's id"
            )
        ids.append(found[0].id)
    return ids


def _asks(row: HarnessRow, item: Item) -> bool:
    # Harnesses append how to answer.
    return row.question is None or _normal(row.question).startswith(_normal(item.prompt))


def _shows(row: HarnessRow, item: Item) -> bool:
    image = item.truth.get("image")
    return row.image is None or image is None or _stem(row.image) == _stem(str(image))


def _normal(text: str) -> str:
    return " ".join(text.split()).casefold()


def _stem(path: str) -> str:
    return PurePosixPath(path).stem


def _vlmevalkit(where: str, place: str, row: dict[str, Any]) -> HarnessRow:
    response, image = row["prediction"], row.get("image_path")
    if not isinstance(response, str):
        raise InputError(
            f"{where}: prediction is {response!r:.40}, not a text; write an empty text where the "
            "model said nothing"
        )
    if response.startswith(NO_ANSWER):
        raise InputError(f"{where}: prediction is {NO_ANSWER!r}; let VLMEvalKit answer it again")
    return HarnessRow(
        place, str(row["index"]), _text_or_none(row.get("question")), _text_or_none(image), response
    )


def _lmms_eval(where: str, place: str, row: dict[str, Any]) -> HarnessRow:
    # lmms-eval leaves `resps` out where no filter changed them.
    field = "resps" if "resps" in row else "filtered_resps"
    response = row[field]
    while isinstance(response, list) and len(response) == 1:
        (response,) = response
    if not isinstance(response, str):
        raise InputError(f"{where}: {field} is {response!r:.60}, not one text; keep one response")
    metrics = [value for value in row.values() if isinstance(value, dict)]
    ids = {str(metric["question_id"]) for metric in metrics if "question_id" in metric}
    if len(ids) > 1:
        raise InputError(
            f"{where}: its metrics have several question_id ({', '.join(sorted(ids))}); keep one"
        )
    return HarnessRow(place, next(iter(ids), None), _text_or_none(row.get("input")), None, response)


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def export_responses(
    given: Sequence[tuple[Item, dict[str, Any]]],
    benchmark: str,
    to: Format,
    model: str,
    folder: Path,
) -> Path:
    """Write items with their responses (`verdicts.paired`) as a file of a harness; return it.

    - `vlmevalkit-tsv`, `vlmevalkit-json`: `{model}_{DATASET}` with index (the item's id), question,
      answer (Yes or No), category (POPE's setting, AMBER's type), prediction and, where it is
      known, image_path. Items that have no yes or no, AMBER's descriptions, are left out: a line
      on standard error says how many.
    - `lmms-eval`: `{model}/{date}_samples_{task}.jsonl`, a line for each item; `doc_id` is its
      number, `doc_hash` is left out, for it is made of lmms-eval's own copy of the item.

    Raises InputError when the file exists or no item can be written.
    """
    plain = model.replace("/", "__")
    if to == "lmms-eval":
        date = datetime.now().strftime("%Y%m%d_%H%M%S")
        path = folder / plain / f"{date}_samples_{benchmark.replace('-', '_')}.jsonl"
        rows = [_sample(number, *one) for number, one in enumerate(given)]
    else:
        kind = str(given[0][0].truth["kind"])
        dataset = kind.upper() if kind in ("pope", "amber") else benchmark
        path = folder / f"{plain}_{dataset}.{to.removeprefix('vlmevalkit-')}"
        rows = [_prediction(*one) for one in given if _label(one[0])]
        if left := len(given) - len(rows):
            say(f"note: {left} of {len(given)} items have no yes or no and are left out")
    if not rows:
        raise InputError(
            f"{benchmark}: has no question to answer with yes or no, which VLMEvalKit's file is "
            "for; choose the format lmms-eval"
        )
    if path.exists():
        raise InputError(f"{path}: already exists; remove it, or choose another folder")
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        if to == "vlmevalkit-tsv":
            table = csv.DictWriter(
                file, list(rows[0]), delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n"
            )
            table.writeheader()
            table.writerows(rows)
        elif to == "vlmevalkit-json":
            file.write(json.dumps(rows, ensure_ascii=False, indent=4) + "\n")
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return path


def _label(item: Item) -> str | None:
    """Return yes or no, or None when the item is no such question."""
    label = item.truth.get("label", item.truth.get("truth"))
    return label if label in ("yes", "no") else None


def _prediction(item: Item, response: dict[str, Any]) -> dict[str, Any]:
    truth = item.truth
    image = {"image_path": truth["image"]} if "image" in truth else {}
    return {
        "index": int(item.id) if item.id.isdecimal() else item.id,
        **image,
        "question": item.prompt,
        "answer": str(_label(item)).capitalize(),
        "category": str(truth.get("setting", truth.get("type", ""))),
        "prediction": response["response"],
    }


def _sample(number: int, item: Item, response: dict[str, Any]) -> dict[str, Any]:
    text, kind, label = response["response"], str(item.truth["kind"]), _label(item)
    known = {name: value for name, value in item.truth.items() if name not in ("kind", "image")}
    verdict: dict[str, Any] = {"question_id": item.id}
    if label:
        prediction = text.lower().strip()
        verdict |= {
            "score": float(prediction == label),
            "prediction": prediction,
            "ground_truth": label,
        }
    names = [f"pope_{name}" for name in _POPE] if kind == "pope" else [kind]
    return {
        "doc_id": number,
        "target": label or json.dumps(known, ensure_ascii=False),
        "filtered_resps": [text],
        "resps": [[text]],
        "input": item.prompt,
        **dict.fromkeys(names, verdict),
    }
