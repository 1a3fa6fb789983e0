"""MMHal-Bench's questions."""

from functools import partial
from pathlib import Path

from mmpref.benchmarks.files import read_json, text_field, texts_field
from mmpref.errors import InputError
from mmpref.records.items import Item

TYPES = (
    *("attribute", "adversarial", "comparison", "counting"),
    *("relation", "environment", "holistic", "other"),
)


def items(folder: Path, image_judge: bool = False) -> list[Item]:
    """Return the 96 questions, in the order of the file.

    Truth is `type`, `topic`, `image_content` (names of what is in the image), `question`,
    `reference` (an answer by a person), `image`, and `image_judge` if the judge sees the image.

    Raises InputError when the file is missing or is another one.
    """
    path = folder / "mmhal-bench_answer_template.json"
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: is not a list of questions; download it again")
    found: dict[str, Item] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{path}: row {number}"
        text = partial(text_field, where, row)
        id, type = text("image_id"), text("question_type")
        if id in found:
            raise InputError(f"{where}: image_id: {id!r} twice; download it again")
        if type not in TYPES:
            raise InputError(
                f"{where}: question_type is {type!r}; one of {', '.join(TYPES)} is expected; "
                "download it again"
            )
        truth = {
            "kind": "mmhal",
            # The benchmark's own images are called as on Flickr.
            "image": str(row.get("image_src") or f"{id}.jpg").rpartition("/")[2],
            "type": type,
            "topic": text("question_topic"),
            "image_content": texts_field(where, row, "image_content"),
            "question": text("question"),
            "reference": text("gt_answer"),
            **({"image_judge": True} if image_judge else {}),
        }
        found[id] = Item(id, (), text("question"), truth)
    return list(found.values())
