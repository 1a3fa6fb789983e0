"""mDPO's training data: 10,000 pairs chosen from VLFeedback (Wang et al. 2024)."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from mmpref.datasets.files import Found, content_id, read_rows
from mmpref.datasets.public import (
    FOLDER,
    IMAGES,
    PublicDataset,
    file_name,
    question_of,
    texts_of,
)
from mmpref.datasets.vlfeedback import vlfeedback_images
from mmpref.records.rows import Candidate, RowError

if TYPE_CHECKING:
    from mmpref.records.folders import ImageFolder

FILE = "vlfeedback_llava_10k.json"
TEMPLATE = re.compile(r"(?P<system>.*?)\bUSER:(?P<question>.*)\bASSISTANT:\s*", re.DOTALL)
"""Vicuna's template, which the prompts come in: it would be applied a second time."""


class MdpoDataset(PublicDataset):
    """The 10,000 pairs of mDPO; its images are VLFeedback's."""

    source: Literal["mdpo"]
    folder: str = Field("resources/benchmarks/mdpo", description=FOLDER)
    images: str = Field("resources/benchmarks/vlfeedback-images", description=IMAGES)

    def rows(self, seed: int, require_rejected: bool) -> Found:
        """Yield the pairs."""
        path = Path(self.folder, FILE)
        images = vlfeedback_images(self.images)

        def made(number: int, row: dict[str, Any]) -> Found:
            yield self._candidate(path, number, row, images)

        return read_rows(path, made)

    def _candidate(
        self, path: Path, number: int, row: dict[str, Any], images: "ImageFolder"
    ) -> Candidate:
        image, prompt, chosen = texts_of(row, "img_path", "prompt", "chosen")
        name = file_name(image)
        return Candidate(
            file=str(path),
            row=number,
            id=f"{Path(name).stem}-{content_id(prompt, chosen, row.get('rejected'))}",
            images=[images.image(name, f"merged_images/{name}", f"images/{name}")],
            prompt=question_of(_without_template(prompt)),
            chosen=chosen,
            rejected=row.get("rejected"),
            source=self.source,
            meta={"row": number},
        )


def _without_template(prompt: str) -> str:
    if match := TEMPLATE.fullmatch(prompt):
        return match["question"]
    if "USER:" in prompt or "ASSISTANT:" in prompt:
        raise RowError("prompt", "has another template than `... USER: ... ASSISTANT:`")
    return prompt
