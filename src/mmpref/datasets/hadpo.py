"""HA-DPO: descriptions and yes/no answers of a model, corrected by GPT-4 (Zhao et al. 2023)."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from mmpref.datasets.files import Found, Make, content_id, made, read_json
from mmpref.datasets.public import FOLDER, IMAGES, PublicDataset, question_of
from mmpref.errors import InputError
from mmpref.records.rows import Candidate, Quarantined, RowError, Skipped

if TYPE_CHECKING:
    from mmpref.records.folders import NamedImage

IMAGE_DATA = "image_data.json"
QUESTIONS = (
    "Describe this image in detail.",
    "Take a look at this image and describe what you notice.",
    "Please provide a detailed description of the picture.",
    "Could you describe the contents of this image for me?",
)
"""The authors' questions; the files of descriptions have none."""


class HADPODataset(PublicDataset):
    """HA-DPO: pairs about images of Visual Genome, made from the answers of one of three models."""

    source: Literal["hadpo"]
    folder: str = Field("resources/benchmarks/hadpo", description=FOLDER)
    images: str = Field("resources/benchmarks/visual-genome", description=IMAGES)
    model: Literal["llava-v1.5", "minigpt4", "instructblip"] = Field(
        "llava-v1.5", description="whose answers were corrected"
    )

    def rows(self, seed: int, require_rejected: bool) -> Found:
        """Yield the descriptions, then the yes/no answers.

        Of the rewordings that a description has, one of the true ones, one of the others and a
        question are drawn, by the seed and the image's id. Answers that were right are skipped.
        """
        folder = Path(self.folder, "hadpo", self.model)
        images = _VisualGenome(self.images)
        yield from _read(folder / "desc_data.json", self._description(seed, images))
        yield from _read(folder / "pope_data.json", self._answer(images))

    def _description(self, seed: int, images: "_VisualGenome") -> Make:
        from mmpref.randomness import generator

        def make(number: int, row: dict[str, Any]) -> Found:
            image = _image_id(row)
            draw = generator(seed, "hadpo", image)
            chosen = _drawn("chosen", row.get("chosen"), draw)
            rejected = _drawn("rejected", row.get("rejected"), draw)
            question = QUESTIONS[int(draw.integers(len(QUESTIONS)))]
            yield self._candidate("desc", number, image, images, (question, chosen, rejected))

        return make

    def _answer(self, images: "_VisualGenome") -> Make:
        def make(number: int, row: dict[str, Any]) -> Found:
            if row.get("correct") is True:
                yield Skipped("the model's answer was right")
                return
            rejected = row.get("reject", row.get("rejected"))
            texts = question_of(row.get("question")), row.get("chosen"), rejected
            yield self._candidate("pope", number, _image_id(row), images, texts)

        return make

    def _candidate(
        self, kind: str, number: int, image: str, images: "_VisualGenome", texts: tuple[Any, ...]
    ) -> Candidate:
        question, chosen, rejected = texts
        return Candidate(
            file=str(Path(self.folder, "hadpo", self.model, f"{kind}_data.json")),
            row=number,
            id=f"{kind}-{image}-{content_id(*texts)}",
            images=[images.image(image)],
            prompt=question,
            chosen=chosen,
            rejected=rejected,
            source=self.source,
            meta={"kind": kind, "image_id": image},
        )


class _VisualGenome:
    """The images of Visual Genome by number, which `image_data.json` names by their address."""

    def __init__(self, place: str) -> None:
        from mmpref.records.folders import ImageFolder

        self._folder = ImageFolder(place)
        path = Path(place, IMAGE_DATA)
        try:
            self._names = {
                int(image["image_id"]): "/".join(image["url"].split("/")[-2:])
                for image in read_json(path)
            }
        except (TypeError, KeyError, ValueError, AttributeError):
            raise InputError(
                f"{path}: is not the list of images of Visual Genome (image_id, url); get it again"
            ) from None

    def image(self, id: str) -> "NamedImage":
        """Return an image. Raises RowError when Visual Genome has none of this number."""
        if int(id) not in self._names:
            raise RowError("image_id", f"is not in {IMAGE_DATA} ({id})")
        return self._folder.image(self._names[int(id)])


def _read(path: Path, make: Make) -> Found:
    """Yield the rows of a file: a list, or (LLaVA's descriptions) an object by image id."""
    data = read_json(path)
    if isinstance(data, dict):
        data = [
            {"image_id": key, **row} if isinstance(row, dict) else row for key, row in data.items()
        ]
    if not isinstance(data, list):
        raise InputError(f"{path}: must be a JSON array or object of rows; get the file again")
    for number, row in enumerate(data, 1):
        if isinstance(row, dict):
            yield from made(path, number, row, make)
        else:
            reason = f"should be an object with the row's fields (is {type(row).__name__})"
            yield Quarantined(str(path), number, "", "row", reason, {"row": row})


def _image_id(row: dict[str, Any]) -> str:
    id = row.get("image_id")
    if isinstance(id, bool) or not isinstance(id, int | str) or not str(id).isdecimal():
        raise RowError("image_id", "is missing" if id is None else f"is not a number ({id})")
    return str(int(id))


def _drawn(field: str, texts: Any, draw: Any) -> Any:
    if not isinstance(texts, list) or not texts:
        raise RowError(field, "should be a list of texts that is not empty")
    return texts[int(draw.integers(len(texts)))]
