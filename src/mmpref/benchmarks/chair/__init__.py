"""CHAIR: COCO objects that captions name but images lack."""

import re
from pathlib import Path

from mmpref.benchmarks.benchmark import Benchmark
from mmpref.errors import InputError
from mmpref.scoring.formats import ResponseFormat

_IMAGE_ID = re.compile(r"(?:COCO_(?:train|val|test)\d{4}_)?(\d+)(?:\.(?:jpe?g|png))?")


def image_id(text: str | int) -> str:
    """Return the id of a COCO image as in `Item.id`: digits without zeros in front.

    It is given as a number or a file name, such as `COCO_val2014_000000040468.jpg`.

    Raises InputError when it is neither.
    """
    found = _IMAGE_ID.fullmatch(Path(str(text).strip()).name)
    if not found:
        raise InputError(
            f"image_id: {text!r} is not a COCO image; write its number or its file name, "
            "such as 40468 or COCO_val2014_000000040468.jpg"
        )
    return str(int(found[1]))


BENCHMARKS = (
    Benchmark(
        "chair",
        kind="chair",
        data="chair",
        images="coco-val2014",
        responses=ResponseFormat(
            ("lines", "array", "mapping"),
            ("image_id", "image"),
            ("caption", "text", "answer"),
            normal_id=image_id,
        ),
        subsets=True,
        nltk=True,
    ),
)
