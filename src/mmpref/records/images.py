"""Images as people have them: any common file, read as upright RGB pixels, stored so all can."""

import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmpref.errors import InputError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What is read. Pillow knows more, but some of those (EPS) start programs."""

MAX_PIXELS = 178_956_970
MAX_FILE_BYTES = 2**30
"""Larger images are refused, undecoded: where Pillow refuses, and that as a plain 16-bit TIFF."""

MAX_SIDE = 4096
"""Stored images are shrunk to this many pixels on their longer side; no vision tower sees more."""


def read_image_file(path: Path) -> bytes:
    """Return the content of an image file, undecoded.

    Raises InputError, whose message is a predicate ("does not exist (PATH)"), when `path` is not a
    file of at most `MAX_FILE_BYTES`. Devices and pipes, which may never end, are not opened.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"is a folder, device or pipe, not a file ({path})")
        if status.st_size > MAX_FILE_BYTES:
            raise InputError(f"has more than {MAX_FILE_BYTES} bytes ({path})")
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except FileNotFoundError:
        raise InputError(f"does not exist ({path})") from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read ({error})") from error


def open_image(data: bytes) -> Image.Image:
    """Return an encoded image as upright 8-bit RGB.

    The first frame, turned as its EXIF says; transparency lies on white; of 16 bits the upper ones
    count (65535 is white); 32-bit integers and floats, whose white nothing defines, are stretched
    from their lowest to their highest value. Raises InputError, whose message is a predicate ("is
    damaged (WHY)"), when `data` is damaged, not in one of `FORMATS`, or beyond `MAX_PIXELS`.
    """
    with _decoding(data) as image:
        return _upright(image).convert("RGB")


def storable_image(data: bytes) -> bytes:
    """Return the image file to store in a dataset for an image file as a person has it.

    JPEG, PNG and WebP files that every reader decodes alike stay byte for byte. Everything else
    (transparency, 16 bits, CMYK, animation, TIFF, GIF, BMP) becomes a grey or RGB PNG with the
    pixels of `open_image`. Images beyond `MAX_SIDE` are shrunk to it, as JPEG of quality 95. Raises
    InputError as `open_image` does, also for damage that only decoding shows.
    """
    with _decoding(data) as image:
        image.load()
        # A phone's JPEG may carry a preview as a second frame (MPO), which readers skip.
        if (
            (image.format == "MPO" or getattr(image, "n_frames", 1) == 1)
            and image.format in ("JPEG", "MPO", "PNG", "WEBP")
            and image.mode in ("1", "L", "P", "RGB")
            and not image.has_transparency_data
            and max(image.size) <= MAX_SIDE
        ):
            image.getexif()  # readers ask it for the rotation: unreadable EXIF has to show here
            return data
        pixels = _upright(image)
    file = BytesIO()
    if max(pixels.size) > MAX_SIDE:
        # Lossless would keep little of what shrinking blurred, in ten times the bytes.
        pixels.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
        pixels.save(file, "JPEG", quality=95, subsampling=0)
    else:
        pixels.save(file, "PNG")
    return file.getvalue()


@contextmanager
def _decoding(data: bytes) -> Iterator[Image.Image]:
    """Yield the opened image; what goes wrong with it in the block is raised as InputError."""
    if not data:
        raise InputError("has zero bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                yield image
    except UnidentifiedImageError:
        raise InputError(f"is not an image in a supported format ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError:
        raise InputError(f"has more than {MAX_PIXELS} pixels") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise anything on damaged data.
        raise InputError(f"is damaged ({error})") from error


def _upright(image: Image.Image) -> Image.Image:
    """Return the image as it is meant to be seen, as 8-bit grey (mode L) or RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        low, high = values.min(), values.max()
        image = Image.fromarray(np.uint8((values - low) / ((high - low) or 1) * 255 + 0.5))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "L" else image.convert("RGB")
