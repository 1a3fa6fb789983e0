"""VQAv2 and TextVQA: open answers held against those of ten people."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpref.benchmarks.benchmark import Benchmark
from mmpref.scoring.formats import ResponseFormat

if TYPE_CHECKING:
    from mmpref.records.items import Item


def _by_image_and_question(items: "Sequence[Item]") -> Callable[[dict[str, Any]], str | None]:
    # In LLaVA's answers to TextVQA `question_id` is the image, a line of `prompt` the question.
    ids = {(Path(item.truth["image"]).stem, item.prompt.lower()): item.id for item in items}

    def find(row: dict[str, Any]) -> str | None:
        lines = str(row.get("prompt")).lower().replace(" short answer:", "").split("\n")
        questions = [re.sub(r"^question: *", "", line) for line in lines]
        image = str(row.get("question_id"))
        return next((ids[image, one] for one in questions if (image, one) in ids), None)

    return find


_TEXTVQA = ResponseFormat(
    ("lines", "array"), ("question_id",), ("answer", "text"), find=_by_image_and_question
)
_VQAV2 = ResponseFormat(("array",), ("question_id",), ("answer",))

BENCHMARKS = tuple(
    Benchmark(version, "vqa", version, images, responses, {"version": version})
    for version, images, responses in (
        ("textvqa", "textvqa-images", _TEXTVQA),
        ("vqav2", "coco-val2014", _VQAV2),
    )
)
