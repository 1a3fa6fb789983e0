"""Object HalBench's questions, with their images and what is in these."""

import base64
from functools import cache
from pathlib import Path

from mmpref.benchmarks.chair import image_id
from mmpref.benchmarks.chair.items import SUBSET, ground_truth
from mmpref.benchmarks.chair.words import Words, make_words, read_classes
from mmpref.benchmarks.files import read_json, text_field
from mmpref.errors import InputError
from mmpref.language.words import lemma
from mmpref.records.items import Item


def items(folder: Path) -> list[Item]:
    """Return the questions of the benchmark with their images, which are embedded.

    `folder` holds `obj_halbench_300_with_image.jsonl` (rows of `image_id`, `question` and `image`,
    base64) and `synonyms_refine.txt`; it or the folder `chair` beside it what `chair.items` takes
    for its ground truth: COCO's annotations, here read with WordNet's lemmas, or CHAIR's subset as
    it is. Ids are image ids.

    Raises InputError when a file is missing or foreign, or an image is not annotated.
    """
    path = folder / "obj_halbench_300_with_image.jsonl"
    rows: dict[str, tuple[bytes, str]] = {}
    for number, row in enumerate(read_json(path), start=1):
        where = f"{path}: row {number}"
        question, encoded = (text_field(where, row, field) for field in ("question", "image"))
        try:
            id, image = image_id(row.get("image_id")), base64.b64decode(encoded, validate=True)
        except (ValueError, InputError) as error:
            raise InputError(
                f"{where}: image_id or image (base64): {error}; download the file again"
            ) from None
        if id in rows:
            raise InputError(f"{where} (image_id {id}): image_id: twice; download it again")
        rows[id] = (image, question)
    here = (folder / "annotations").is_dir() or (folder / SUBSET).is_file()
    annotated = folder if here else folder.parent / "chair"
    truths = ground_truth(annotated, rows.keys(), read_words(folder), lemma)
    found = []
    for id, (image, question) in rows.items():
        name, objects = truths[id]
        truth = {"kind": "object-halbench", "image": name, "objects": objects, "question": question}
        found.append(Item(id, (image,), question, truth))
    return found


@cache
def read_words(folder: Path | None) -> Words:
    """Return the refined synonyms in `folder`. Raises InputError when there are none."""
    listed = read_classes(folder, "synonyms_refine.txt")
    classes = {name.strip(): kind.strip() for name, kind in listed.items()}
    return make_words(classes, [name for name in classes if " " in name])
