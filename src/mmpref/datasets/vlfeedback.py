"""VLFeedback: answers of many models to one question, rated by GPT-4V (Li et al. 2023, Silkie)."""

import math
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from mmpref.datasets.files import Found, content_id, read_rows
from mmpref.datasets.public import FOLDER, IMAGES, PublicDataset, question_of, texts_of
from mmpref.records.rows import Candidate, Quarantined, RowError, Skipped

if TYPE_CHECKING:
    from mmpref.records.folders import ImageFolder

FILE = "vlfeedback_80k.jsonl"
ARCHIVE = "merged_images.zip"
RATINGS = ("Helpfulness", "Ethical Considerations", "Visual Faithfulness")
ARTEFACT = re.compile(r"\s*【[^】]*†[^】]*】")
"""A reference to a source that GPT-4V left in a text, as in 【3†source】."""


class VLFeedbackDataset(PublicDataset):
    """VLFeedback: pairs of answers that GPT-4V rated differently."""

    source: Literal["vlfeedback"]
    folder: str = Field("resources/benchmarks/vlfeedback", description=FOLDER)
    images: str = Field("resources/benchmarks/vlfeedback-images", description=IMAGES)
    pairing: Literal["strict", "extremes"] = Field(
        "strict",
        description="`strict`: every two answers with different ratings (Silkie); `extremes`: the "
        "best against the worst, of equal ones the first",
    )
    rating: Literal["mean", "Helpfulness", "Ethical Considerations", "Visual Faithfulness"] = Field(
        "mean", description="what answers are compared by: the mean of the three, or one of them"
    )

    def rows(self, seed: int, require_rejected: bool) -> Found:
        """Yield the pairs: several for each question, one after the other.

        An answer with a rating that is not a number is left out and put into quarantine; equal
        ratings, and questions with fewer than two rated answers, are counted as skipped.
        """
        path = Path(self.folder, FILE)
        images = vlfeedback_images(self.images)

        def made(number: int, row: dict[str, Any]) -> Found:
            return self._pairs(path, number, row, images)

        return read_rows(path, made)

    def _pairs(self, path: Path, number: int, row: dict[str, Any], images: "ImageFolder") -> Found:
        (id,) = texts_of(row, "id")
        completions = row.get("completions")
        if not isinstance(completions, list):
            raise RowError("completions", "is not a list of answers")
        rated: list[tuple[float, int, dict[str, Any]]] = []
        for place, completion in enumerate(completions):
            try:
                rated.append((self._rating(completion), place, completion))
            except RowError as error:
                content = completion if isinstance(completion, dict) else {"completion": completion}
                yield Quarantined(
                    str(path), number, f"{id}-{place}", error.field, error.reason, content
                )
        if len(rated) < 2:
            yield Skipped("a question with fewer than two rated answers")
            return
        for first, second in self._compared(rated):
            if first[0] == second[0]:
                yield Skipped("two answers with equal ratings")
                continue
            best, worst = (first, second) if first[0] > second[0] else (second, first)
            prompt = question_of(row.get("prompt"))
            chosen, rejected = (_cleaned(one[2].get("response")) for one in (best, worst))
            yield Candidate(
                file=str(path),
                row=number,
                # Rows about one image share their id.
                id=f"{id}-{content_id(prompt, chosen, rejected)}",
                images=[images.image(f"{id}.jpg", f"merged_images/{id}.jpg")],
                prompt=prompt,
                chosen=chosen,
                rejected=rejected,
                source=self.source,
                meta={
                    "models": [best[2].get("model"), worst[2].get("model")],
                    "ratings": [best[0], worst[0]],
                },
            )

    def _compared(self, rated: list[Any]) -> Iterator[tuple[Any, Any]]:
        if self.pairing == "strict":
            yield from combinations(rated, 2)
        else:
            # Of equal ones max and min take the first.
            yield max(rated, key=lambda one: one[0]), min(rated, key=lambda one: one[0])

    def _rating(self, completion: Any) -> float:
        names = RATINGS if self.rating == "mean" else (self.rating,)
        numbers = []
        for name in names:
            try:
                text = completion["annotations"][name]["Rating"]
                number = float(text)
            except (KeyError, TypeError):
                raise RowError(f"annotations.{name}.Rating", "is missing") from None
            except ValueError:
                raise RowError(f"annotations.{name}.Rating", f"is not a number ({text})") from None
            if not math.isfinite(number):
                raise RowError(f"annotations.{name}.Rating", f"is not a number ({text})")
            numbers.append(number)
        return sum(numbers) / len(numbers)


def vlfeedback_images(place: str) -> "ImageFolder":
    """Return the images of VLFeedback: a folder, an archive, or a folder that holds the archive."""
    from mmpref.records.folders import ImageFolder

    archive = Path(place, ARCHIVE)
    return ImageFolder(archive if archive.is_file() else place)


def _cleaned(text: Any) -> Any:
    return ARTEFACT.sub("", text) if isinstance(text, str) else text
