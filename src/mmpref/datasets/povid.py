"""POVID: true answers against the same with hallucinations written in (Zhou et al. 2024)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from mmpref.datasets.conversations import last_answer, prompt_of, turns_of
from mmpref.datasets.files import Found, content_id, read_rows
from mmpref.datasets.public import FOLDER, IMAGES, PublicDataset, file_name, texts_of
from mmpref.records.rows import Candidate

if TYPE_CHECKING:
    from mmpref.records.folders import ImageFolder, NamedImage

FILE = "POVID_preference_data_for_VLLMs_version_1.json"
COCO = re.compile(r"(?:COCO_train2014_)?(\d{12}\.jpg)")


class PovidDataset(PublicDataset):
    """POVID: about 17,000 pairs about images of COCO."""

    source: Literal["povid"]
    folder: str = Field("resources/benchmarks/povid", description=FOLDER)
    images: str = Field("resources/benchmarks/coco-train2014", description=IMAGES)

    def rows(self, seed: int, require_rejected: bool) -> Found:
        """Yield the pairs: of a conversation the last answer, after the chosen conversation."""
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
        turns, chosen = last_answer(
            "conversations", turns_of("conversations", row.get("conversations"))
        )
        field = "rejected_conversations"
        rejected = row.get(field) and last_answer(field, turns_of(field, row[field]))[1]
        return Candidate(
            file=str(path),
            row=number,
            id=f"{id}-{content_id(turns, chosen, rejected)}",
            images=[coco_train(images, image)],
            prompt=prompt_of(turns),
            chosen=chosen,
            rejected=rejected,
            source=self.source,
            meta={"row": number},
        )


def coco_train(images: "ImageFolder", path: str) -> "NamedImage":
    """Return a training image of COCO, which has one name of 2014 and another of 2017."""
    name = file_name(path)
    if match := COCO.fullmatch(name):
        old, new = f"COCO_train2014_{match[1]}", match[1]
        return images.image(old, f"train2014/{old}", new, f"train2017/{new}")
    return images.image(name)
