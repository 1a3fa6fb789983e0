"""GQA's questions."""

from pathlib import Path

from mmpref.benchmarks.files import read_json
from mmpref.errors import InputError
from mmpref.records.items import Item


def items(folder: Path) -> list[Item]:
    """Return the balanced questions of testdev, in the order of the file.

    Truth is `image`, `answer`, and the types of the question, `structural` and `semantic`.

    Raises InputError when the file is missing, or a question in it lacks some of that.
    """
    path = folder / "testdev_balanced_questions.json"
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: is not an object of questions by their ids; give GQA's own file")
    questions = []
    for id, question in content.items():
        where = f"{path}: question {id}"
        if not isinstance(question, dict):
            raise InputError(f"{where}: is not an object; give GQA's own file")
        # eval.py leaves such questions out of every mean.
        if question.get("isBalanced") is False:
            raise InputError(f"{where}: isBalanced is false; give the file of balanced questions")
        fields = question | (question.get("types") or {})
        for name in ("question", "answer", "imageId", "structural", "semantic"):
            if not isinstance(fields.get(name), str):
                raise InputError(f"{where}: {name} is missing; download the file again")
        truth = {"kind": "gqa", "image": f"{fields['imageId']}.jpg"}
        truth |= {name: fields[name] for name in ("answer", "structural", "semantic")}
        questions.append(Item(id, (), fields["question"], truth))
    return questions
