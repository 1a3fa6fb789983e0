"""MMHal-Bench's questions."""

from functools import partial
from pathlib import Path
from typing import Any

from mmpref.benchmarks.files import read_json, text_field, texts_field
from mmpref.errors import InputError
from mmpref.records.items import Item

TYPES = (
    *("attribute", "adversarial", "comparison", "counting"),
    *("relation", "environment", "holistic", "other"),
)

_FILE = "mmhal-bench_answer_template.json"


def items(folder: Path, image_judge: bool = False) -> list[Item]:
    """Return the 96 questions, in the order of the file.

    Truth is `type`, `topic`, `image_content` (names of what is in the image), `question`,
    `reference` (an answer by a person), `image`, and `image_judge` if the judge sees the image.

    Raises InputError when the file is missing or is another one.
    """
    path = folder / _FILE
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: is not a list of questions; download it again")
    seen: set[str] = set()
    found = []
    for number, row in enumerate(rows, start=1):
        text = partial(text_field, f"{path}: row {number}", row)
        id = text("image_id")
        if id in seen:
            raise InputError(f"{path}: row {number}: image_id: {id!r} twice; download it again")
        seen.add(id)
        if text("question_type") not in TYPES:
            raise InputError(
                f"{path}: row {number}: question_type is {row['question_type']!r}; one of "
                f"{', '.join(TYPES)} is expected; download it again"
            )
        truth: dict[str, Any] = {
            "kind": "mmhal",
            # The benchmark's own images are called as on Flickr.
            "image": str(row.get("image_src") or f"{id}.jpg").rpartition("/")[2],
            "type": text("question_type"),
            "topic": text("question_topic"),
            "image_content": texts_field(f"{path}: row {number}", row, "image_content"),
            "question": text("question"),
            "reference": text("gt_answer"),
        }
        if image_judge:
            truth["image_judge"] = True
        found.append(Item(id, (), text("question"), truth))
    return found
