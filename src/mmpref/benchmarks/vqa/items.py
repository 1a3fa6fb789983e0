"""The questions of VQAv2 and TextVQA."""

from pathlib import Path
from typing import Any

from mmpref.benchmarks.files import read_json
from mmpref.errors import InputError
from mmpref.records.items import Item

PEOPLE = 10


def items(folder: Path, version: str) -> list[Item]:
    """Return the questions of `version`, `vqav2` or `textvqa`, in the order of the file.

    Truth is `version`, `image`, `answers` (ten texts) and, for VQAv2, `question_type` and
    `answer_type` (`yes/no`, `number` or `other`).

    Raises InputError when a file is missing, or a question in it lacks some of that.
    """
    textvqa = version == "textvqa"
    if textvqa:
        path = folder / "TextVQA_0.5.1_val.json"
        questions = _rows(path, "data")
    else:
        path = folder / "v2_mscoco_val2014_annotations.json"
        questions = _rows(folder / "v2_OpenEnded_mscoco_val2014_questions.json", "questions")
        annotations = {row.get("question_id"): row for row in _rows(path, "annotations")}
    found: dict[str, Item] = {}
    for number, question in enumerate(questions, start=1):
        id, text, image = (question.get(name) for name in ("question_id", "question", "image_id"))
        where = f"{path}: question_id {id} (question {number})"
        if str(id) in found:
            raise InputError(f"{where}: question_id: twice; make ids unique")
        if not isinstance(text, str) or not isinstance(image, str if textvqa else int):
            raise InputError(f"{where}: question or image_id is missing; download it again")
        annotation = question if textvqa else annotations.get(id)
        if annotation is None:
            raise InputError(f"{where}: has no annotation; take both files from one version")
        answers = annotation.get("answers")
        if not isinstance(answers, list) or len(answers) != PEOPLE:
            raise InputError(f"{where}: answers: not a list of {PEOPLE}; download it again")
        answers = [one.get("answer") if isinstance(one, dict) else one for one in answers]
        if not all(isinstance(one, str) for one in answers):
            raise InputError(f"{where}: answers: one is not a text; download it again")
        truth = {
            "kind": "vqa",
            "version": version,
            "image": f"{image}.jpg" if textvqa else f"COCO_val2014_{image:012d}.jpg",
            "answers": answers,
        }
        types = ("question_type", "answer_type")
        truth |= {name: str(annotation[name]) for name in types if name in annotation}
        found[str(id)] = Item(str(id), (), text, truth)
    return list(found.values())


def _rows(path: Path, field: str) -> list[dict[str, Any]]:
    content = read_json(path)
    found = content.get(field) if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise InputError(f"{path}: {field} is not a list of objects; give the benchmark's own file")
    return found
