"""LLaVA-Bench's questions, the images in words, and GPT-4's answers."""

from pathlib import Path
from typing import Any

from mmpref.benchmarks.files import read_json, text_field, texts_field
from mmpref.errors import InputError
from mmpref.records.items import Item

CATEGORIES = ("conv", "detail", "complex")

# Questions, what is in the images, GPT-4's answers; what precedes a category in `rule.json`.
_FILES = {
    "in-the-wild": ("questions", "context", "answers_gpt4", "llava_bench_"),
    "coco": ("qa90_questions", "caps_boxes_coco2014_val_80", "qa90_gpt4_answer", ""),
}


def items(folder: Path, version: str) -> list[Item]:
    """Return the questions, in the order of the file; `version` is `in-the-wild` or `coco`.

    Truth is `version`, `category` (`conv`, `detail` or `complex`), `question`, `context` (the
    image in words), `reference` (GPT-4's answer, made from the context) and `image`; in the COCO
    version that is the name in COCO's `val2014`, to which the benchmark's own lacks the first part.

    Raises InputError when a file is missing or is another one.
    """
    folder = folder_of(folder, version)
    questions, contexts, answers = (folder / f"{name}.jsonl" for name in _FILES[version][:3])
    descriptions = {
        text_field(where, row, "image"): _context(where, row, version)
        for where, row in _rows(contexts)
    }
    references = {_id(where, row): text_field(where, row, "text") for where, row in _rows(answers)}
    found: dict[str, Item] = {}
    for where, row in _rows(questions):
        id = _id(where, row)
        text, image, category = (text_field(where, row, f) for f in ("text", "image", "category"))
        for problem, wrong in (
            (f"question_id: {id} twice", id in found),
            (f"question_id: {answers.name} has no answer to {id}", id not in references),
            (f"image: {contexts.name} does not describe {image}", image not in descriptions),
            (f"category is {category!r}, not one of {CATEGORIES}", category not in CATEGORIES),
        ):
            if wrong:
                raise InputError(f"{where}: {problem}; download the benchmark again")
        rule_of(folder, version, category)
        truth = {
            "kind": "llava-bench",
            "image": image if version == "in-the-wild" else f"COCO_val2014_{image}",
            "version": version,
            "category": category,
            "question": text,
            "context": descriptions[image],
            "reference": references[id],
        }
        found[id] = Item(id, (), text, truth)
    if not found:
        raise InputError(f"{questions}: has no question; download the benchmark again")
    return list(found.values())


def folder_of(folder: Path, version: str) -> Path:
    """Return the folder of a version: LLaVA's repository has the COCO one in a folder."""
    if version not in _FILES:
        raise InputError(f"LLaVA-Bench: version {version!r} is not one of {', '.join(_FILES)}")
    return folder / version if (folder / version).is_dir() else folder


def rule_of(folder: Path, version: str, category: str) -> tuple[str, str]:
    """Return what the answers are called and what the judge is to do with them."""
    path = folder / "rule.json"
    rules, name = read_json(path), _FILES[version][3] + category
    row = rules.get(name) if isinstance(rules, dict) else None
    where = f"{path}: {name}"
    return text_field(where, row, "role"), text_field(where, row, "prompt")


def _context(where: str, row: dict[str, Any], version: str) -> str:
    """Return the description of an image: captions, then boxes, one per line."""
    if version == "in-the-wild":
        # Text in the released file; the script takes a list too.
        if isinstance(row.get("caption"), list):
            return "\n".join(texts_field(where, row, "caption"))
        return text_field(where, row, "caption")
    captions = "\n".join(texts_field(where, row, "captions"))
    try:
        # A box as Python prints a list.
        boxes = "\n".join(f"{box['category']}: {box['bbox']}" for box in row["instances"])
    except (LookupError, TypeError):
        raise InputError(
            f"{where}: instances is not a list of objects; download the file again"
        ) from None
    return f"{captions}\n\n{boxes}"


def _rows(path: Path) -> list[tuple[str, Any]]:
    return [(f"{path}: row {number}", row) for number, row in enumerate(read_json(path), start=1)]


def _id(where: str, row: Any) -> str:
    value = row.get("question_id") if isinstance(row, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError(f"{where}: question_id is {value!r:.40}; download the file again")
    return str(value)
