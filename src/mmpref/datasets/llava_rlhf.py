"""LLaVA-RLHF: two answers of a model, of which a person preferred one (Sun et al. 2023)."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from mmpref.datasets.conversations import last_answer, prompt_of, turns_of
from mmpref.datasets.files import Found, content_id, read_rows
from mmpref.datasets.povid import coco_train
from mmpref.datasets.public import FOLDER, IMAGES, PublicDataset, texts_of
from mmpref.records.rows import Candidate, RowError

if TYPE_CHECKING:
    from mmpref.records.folders import ImageFolder

FILE = "llava_7b_v1_preference.json"


class LlavaRLHFDataset(PublicDataset):
    """LLaVA-RLHF: 9,422 comparisons by people, about images of COCO."""

    source: Literal["llava_rlhf"]
    folder: str = Field("resources/benchmarks/llava_rlhf", description=FOLDER)
    images: str = Field("resources/benchmarks/coco-train2014", description=IMAGES)

    def rows(self, seed: int, require_rejected: bool) -> Found:
        """Yield the pairs: answers in the place of the conversation's last one."""
        from mmpref.records.folders import ImageFolder

        path = Path(self.folder, FILE)
        images = ImageFolder(self.images)

        def made(number: int, row: dict[str, Any]) -> Iterator[Candidate]:
            yield self._candidate(path, number, row, images)

        return read_rows(path, made)

    def _candidate(
        self, path: Path, number: int, row: dict[str, Any], images: "ImageFolder"
    ) -> Candidate:
        id, image = texts_of(row, "id", "image")
        turns, _ = last_answer("conversations", turns_of("conversations", row.get("conversations")))
        answers = [_answer(field, row.get(field)) for field in ("output_1", "output_2")]
        preference = row.get("preference")
        if preference not in (1, 2):
            raise RowError("preference", f"is neither 1 nor 2 ({preference!r})")
        chosen, rejected = answers if preference == 1 else reversed(answers)
        return Candidate(
            file=str(path),
            row=number,
            id=f"{id}-{content_id(turns, chosen, rejected)}",
            images=[coco_train(images, image)],
            prompt=prompt_of(turns),
            chosen=chosen,
            rejected=rejected,
            source=self.source,
            meta={"row": number, "hallucination": row.get("hallucination")},
        )


def _answer(field: str, message: Any) -> str:
    match message:
        case {"value": str(text)}:
            return text
    raise RowError(field, f"should be a message with a value (is {type(message).__name__})")
