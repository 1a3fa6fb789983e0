"""Photographs from scikit-image and scikit-learn in the kinds of files people have.

A name such as `coffee.gray16.png` says the picture, the kind and the format of the file.
"""

import json
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from mmpref.errors import InputError
from mmpref.files import replacing
from mmpref.randomness import generator

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


def write_photos(files: Iterable[str | Path], folder: str | Path, crops: int = 0) -> None:
    """Write files of rows and the `images/` that they name into `folder`.

    Each row is followed by `crops` more, which say the same of a part of the picture that keeps 80
    to 95 % of either side; `images/3-coffee.webp` is the third of `images/coffee.webp`.

    Raises InputError when a package, a picture or a kind does not exist.
    """
    pictures = _pictures()
    with replacing(folder) as temporary:
        (temporary / "images").mkdir(parents=True)
        for file in map(Path, files):
            lines = []
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                row = json.loads(line)
                name = Path(row["image"]).name
                stem, _, kind = Path(name).stem.partition(".")
                if stem not in pictures or kind not in KINDS:
                    raise InputError(
                        f"{file}, row {number}, image: {row['image']} must be "
                        f"PICTURE[.KIND].FORMAT with a picture of {', '.join(sorted(pictures))} "
                        f"and a kind of {', '.join(KINDS)}."
                    )
                for crop in range(crops + 1):
                    before = f"{crop}-" if crop else ""
                    written = {**row, "id": before + row["id"], "image": f"images/{before}{name}"}
                    lines.append(json.dumps(written, ensure_ascii=False) + "\n")
                    if (temporary / written["image"]).exists():
                        continue
                    with Image.open(pictures[stem]) as picture:
                        part = _cropped(picture, written["image"]) if crop else picture
                        image = KINDS[kind](part)
                        image.save(temporary / written["image"], exif=image.getexif())
            (temporary / file.name).write_text("".join(lines), encoding="utf-8")


def _cropped(picture: Image.Image, name: str) -> Image.Image:
    """Return a part of a picture, drawn for the file `name`."""
    draws = generator(0, "photos-crop", name).random((2, 2))
    sides = np.array(picture.size)
    kept = np.round(sides * (0.8 + 0.15 * draws[0])).astype(int)
    start = np.round((sides - kept) * draws[1]).astype(int)
    return picture.crop((*start.tolist(), *(start + kept).tolist()))


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
