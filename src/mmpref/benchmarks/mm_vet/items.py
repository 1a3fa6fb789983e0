"""MM-Vet's questions."""

from functools import partial
from pathlib import Path

from mmpref.benchmarks.files import read_json, text_field, texts_field
from mmpref.errors import InputError
from mmpref.records.items import Item

CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")


def items(folder: Path) -> list[Item]:
    """Return the 218 questions, in the order of the file.

    Truth is `capability` (the list of what a question takes), `question`, `reference` (the answer,
    with `<AND>` and `<OR>` between its parts) and `image`.

    Raises InputError when the file is missing or is another one.
    """
    path = folder / "mm-vet.json"
    rows = read_json(path)
    if not isinstance(rows, dict) or not rows:
        raise InputError(f"{path}: is not an object of questions by id; download it again")
    found = []
    for id, row in rows.items():
        where = f"{path}: {id}"
        text = partial(text_field, where, row)
        capability = texts_field(where, row, "capability")
        unknown = sorted(set(capability) - set(CAPABILITIES))
        if unknown:
            raise InputError(
                f"{where}: capability: {', '.join(unknown)} is not one of "
                f"{', '.join(CAPABILITIES)}; download the file again"
            )
        truth = {
            "kind": "mm-vet",
            "image": text("imagename"),
            "capability": capability,
            "question": text("question"),
            "reference": text("answer"),
        }
        found.append(Item(id, (), text("question"), truth))
    return found
