"""AMBER's items: descriptions asked for, and yes/no questions."""

from functools import cache
from pathlib import Path
from typing import Any

from mmpref.benchmarks.files import read_json
from mmpref.errors import InputError
from mmpref.records.items import Item

# By the type of an annotation.
CATEGORIES = {
    "generative": "generative",
    "discriminative-hallucination": "existence",
    "discriminative-attribute-state": "state",
    "discriminative-attribute-number": "number",
    "discriminative-attribute-action": "action",
    "discriminative-relation": "relation",
    "relation": "relation",
}
ATTRIBUTES = ("state", "number", "action")
QUESTIONS = ("existence", *ATTRIBUTES, "relation")
PARTS = {
    "all": ("generative", *QUESTIONS),
    "generative": ("generative",),
    "discriminative": QUESTIONS,
    "existence": ("existence",),
    "attribute": ATTRIBUTES,
    "relation": ("relation",),
}


def items(folder: Path, part: str = "all") -> list[Item]:
    """Return the items of AMBER's data in `folder`, in the order of `annotations.json`.

    `part` is `all`, `generative`, `discriminative`, `existence`, `attribute` or `relation`. Prompts
    and images are those of `query/query_all.json`, joined by id. Without that file descriptions are
    asked for as AMBER does, questions are empty, and image N is called `AMBER_N.jpg`.

    Raises InputError when a file is missing or is not AMBER's, an id occurs twice or has no query,
    a word has no entry in `relation.json`, or there is no item of that part.
    """
    if part not in PARTS:
        raise InputError(f"part {part!r} of AMBER: choose one of {', '.join(PARTS)}")
    path, queries_path = folder / "annotations.json", folder / "query" / "query_all.json"
    queries = _queries(queries_path) if queries_path.exists() else None
    found = []
    for id, row in _rows(path).items():
        where = f"{path}: id {id}"
        truth = _truth(where, row)
        if CATEGORIES[truth["type"]] not in PARTS[part]:
            continue
        prompt, image = "", f"AMBER_{id}.jpg"
        if truth["type"] == "generative":
            check_words(folder, truth, where)
            prompt = "Describe this image."
        if queries is not None:
            if id not in queries:
                raise InputError(
                    f"{queries_path}: no query with id {id}; add it, or remove the file to do "
                    "without queries"
                )
            prompt, image = queries[id]
        found.append(Item(str(id), (), prompt, {"kind": "amber", "image": image, **truth}))
    if not found:
        raise InputError(f"{path}: no items of part {part!r}; choose another part")
    return found


def _rows(path: Path) -> dict[int, dict[str, Any]]:
    """Return the objects of a JSON array by their `id`, which is a number and unique."""
    rows = read_json(path)
    if not isinstance(rows, list):
        raise InputError(f"{path}: is not a JSON array; write one object per item, as AMBER does")
    found: dict[int, dict[str, Any]] = {}
    for number, row in enumerate(rows, start=1):
        id = row.get("id") if isinstance(row, dict) else None
        if not isinstance(id, int) or isinstance(id, bool):
            raise InputError(f"{path}: row {number}: id is {id!r}, not a whole number; write one")
        if id in found:
            raise InputError(f"{path}: row {number}: id: {id} is there twice; make ids unique")
        found[id] = row
    return found


def _truth(where: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return type, truth and, of a generative item, hallu of an annotation."""
    type = row.get("type")
    if not isinstance(type, str) or type not in CATEGORIES:
        raise InputError(f"{where}: type is {type!r}; write one of {', '.join(CATEGORIES)}")
    if type != "generative":
        if row.get("truth") not in ("yes", "no"):
            raise InputError(f"{where}: truth is {row.get('truth')!r}; write yes or no")
        return {"type": type, "truth": row["truth"]}
    words = {field: _words(f"{where}: {field}", row.get(field)) for field in ("truth", "hallu")}
    return {"type": type, **words}


def _queries(path: Path) -> dict[int, tuple[str, str]]:
    """Return the question and the image of each id."""
    rows = _rows(path)
    for id, row in rows.items():
        for field in ("query", "image"):
            if not isinstance(row.get(field), str):
                raise InputError(f"{path}: id {id}: {field} is {row.get(field)!r}; write a text")
    return {id: (row["query"], row["image"]) for id, row in rows.items()}


@cache
def associations_of(folder: Path) -> dict[str, list[str]]:
    """Return the words associated with each word; InputError when the file is not AMBER's."""
    path = folder / "relation.json"
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError(f"{path}: is not a JSON object; write the words associated with each word")
    return {word: _words(f"{path}: {word!r}", others) for word, others in found.items()}


def _words(where: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) and word for word in value):
        raise InputError(f"{where} is {value!r:.60}; write a list of words")
    return value


def check_words(folder: Path, truth: dict[str, Any], where: str) -> None:
    """Raise InputError when a word of an item's truth has no entry in `relation.json`."""
    for field in ("truth", "hallu"):
        unknown = sorted(set(truth[field]) - associations_of(folder).keys())
        if unknown:
            raise InputError(
                f"{where}: {field}: {', '.join(unknown)} not in {folder / 'relation.json'}; add "
                "each there as a key, with the words associated with it or an empty list"
            )
