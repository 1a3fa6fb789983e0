"""Photographs from scikit-image and scikit-learn in the kinds of files people have.

A name such as `coffee.gray16.png` says the picture, the kind and the format of the file.
"""

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from mmpref.errors import InputError
from mmpref.files import replacing

SOURCES = {"skimage": "data", "sklearn": "datasets/images"}


def _turned(image: Image.Image) -> Image.Image:
    """Lay the picture on its side, with the EXIF note that says how to set it up again."""
    image = image.transpose(Image.Transpose.ROTATE_90)
    image.getexif()[ExifTags.Base.Orientation] = 6  # to be turned clockwise
    return image


KINDS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "": lambda image: image,
    "gray": lambda image: image.convert("L"),
    "gray16": lambda image: Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257),
    "rgba": lambda image: image.convert("RGBA"),
    "palette": lambda image: image.convert("P", palette=Image.Palette.ADAPTIVE),
    "cmyk": lambda image: image.convert("CMYK"),
    "exif": _turned,
    "large": lambda image: image.resize((6000, 4000)),
    "8x6": lambda image: image.resize((8, 6)),
    "1x1": lambda image: image.resize((1, 1)),
}


def write_photos(pairs: str | Path, folder: str | Path) -> None:
    """Write `pairs.jsonl`, a copy of `pairs`, and the `images/` it names into `folder`.

    Raises InputError when a package, a picture or a kind does not exist.
    """
    pictures = _pictures()
    with replacing(folder) as temporary:
        (temporary / "images").mkdir(parents=True)
        for row, line in enumerate(Path(pairs).read_text().splitlines(), 1):
            name = json.loads(line)["image"]
            stem, _, kind = Path(name).stem.partition(".")
            if stem not in pictures or kind not in KINDS:
                raise InputError(
                    f"{pairs}, row {row}, image: {name} must be PICTURE[.KIND].FORMAT with a "
                    f"picture of {', '.join(sorted(pictures))} and a kind of {', '.join(KINDS)}."
                )
            with Image.open(pictures[stem]) as picture:
                image = KINDS[kind](picture)
                image.save(temporary / name, exif=image.getexif())
        shutil.copyfile(pairs, temporary / "pairs.jsonl")


def _pictures() -> dict[str, Path]:
    files: dict[str, Path] = {}
    for package, folder in SOURCES.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise InputError(
                f"The photographs come with the package {package}, which is not installed here. "
                "Install scikit-image and scikit-learn."
            )
        for path in (Path(spec.origin).parent / folder).iterdir():
            if path.suffix in (".png", ".jpg"):
                files[path.stem] = path
    return files
