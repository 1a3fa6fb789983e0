"""AMBER's items: descriptions asked for, and yes/no questions."""

from collections.abc import Mapping
from functools import lru_cache
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

_DESCRIBE = "Describe this image."


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
    path = folder / "annotations.json"
    queries = _queries(folder / "query" / "query_all.json")
    found = []
    for id, row in _rows(path):
        where = f"{path}: id {id}"
        truth = _truth(where, row)
        if CATEGORIES[truth["type"]] not in PARTS[part]:
            continue
        if truth["type"] == "generative":
            check_words(folder, associations_of(folder / "relation.json"), truth, where)
        prompt = _DESCRIBE if truth["type"] == "generative" else ""
        image = f"AMBER_{id}.jpg"
        if queries is not None:
            if id not in queries:
                raise InputError(
                    f"{folder / 'query' / 'query_all.json'}: no query with id {id}; add it, or "
                    "remove the file to do without queries"
                )
            prompt, image = queries[id]
        found.append(Item(str(id), (), prompt, {"kind": "amber", "image": image, **truth}))
    if not found:
        raise InputError(f"{path}: no items of part {part!r}; choose another part")
    return found


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return the objects of a JSON array with their `id`, which is a number and unique."""
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
    return list(found.items())


def _truth(where: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return type, truth and, of a generative item, hallu of an annotation."""
    type = row.get("type")
    if not isinstance(type, str) or type not in CATEGORIES:
        raise InputError(f"{where}: type is {type!r}; write one of {', '.join(CATEGORIES)}")
    if type != "generative":
        if row.get("truth") not in ("yes", "no"):
            raise InputError(f"{where}: truth is {row.get('truth')!r}; write yes or no")
        return {"type": type, "truth": row["truth"]}
    for field in ("truth", "hallu"):
        if not _is_words(row.get(field)):
            raise InputError(f"{where}: {field} is {row.get(field)!r:.60}; write a list of words")
    return {"type": type, "truth": row["truth"], "hallu": row["hallu"]}


def _queries(path: Path) -> dict[int, tuple[str, str]] | None:
    """Return the question and the image of each id; None without the file."""
    if not path.exists():
        return None
    found = {}
    for id, row in _rows(path):
        for field in ("query", "image"):
            if not isinstance(row.get(field), str):
                raise InputError(f"{path}: id {id}: {field} is {row.get(field)!r}; write a text")
        found[id] = (row["query"], row["image"])
    return found


@lru_cache(maxsize=8)
def associations_of(path: Path) -> dict[str, list[str]]:
    """Return the words associated with each word; InputError when the file is not AMBER's."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError(f"{path}: is not a JSON object; write the words associated with each word")
    for word, others in found.items():
        if not _is_words(others):
            raise InputError(f"{path}: {word!r} is {others!r:.60}; write a list of words")
    return found


def _is_words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) and word for word in value)


def check_words(
    folder: Path, associations: Mapping[str, object], truth: dict[str, Any], where: str
) -> None:
    """Raise InputError when a word of an item's truth has no entry among `associations`."""
    for field in ("truth", "hallu"):
        unknown = sorted(set(truth[field]) - associations.keys())
        if unknown:
            raise InputError(
                f"{where}: {field}: {', '.join(unknown)} not in {folder / 'relation.json'}; add "
                "each there as a key, with the words associated with it or an empty list"
            )
