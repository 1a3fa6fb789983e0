import os
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmpref.errors import InputError
from mmpref.records.images import MAX_SIDE, open_image, read_image_file, storable_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(width: int = 48, height: int = 32) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(
        np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], -1).astype(np.uint8)
    )


def sixteen_bit() -> Image.Image:
    return Image.fromarray((np.arange(48 * 32).reshape(32, 48) * 42).astype(np.uint16))


def half_clear() -> Image.Image:
    image = photo().convert("RGBA")
    image.putalpha(photo().convert("L"))
    return image


def exif_turned(kind: str) -> bytes:
    """Red above blue, as a camera held upright stores it: on its side, with a note."""
    upright = Image.new("RGB", (20, 40), BLUE)
    upright.paste(RED, (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it
    return encoded(upright.transpose(Image.Transpose.ROTATE_90), kind, exif=exif, **LOSSLESS[kind])


LOSSLESS: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 100, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
}

KINDS = {
    "jpeg": encoded(photo(), "JPEG"),
    "grey jpeg": encoded(photo().convert("L"), "JPEG"),
    "cmyk jpeg": encoded(photo().convert("CMYK"), "JPEG"),
    "png": encoded(photo(), "PNG"),
    "grey png": encoded(photo().convert("L"), "PNG"),
    "bilevel png": encoded(photo().convert("1"), "PNG"),
    "palette png": encoded(photo().quantize(16), "PNG"),
    "palette png with a clear colour": encoded(photo().quantize(16), "PNG", transparency=3),
    "rgba png": encoded(half_clear(), "PNG"),
    "grey-alpha png": encoded(photo().convert("LA"), "PNG"),
    "16-bit png": encoded(sixteen_bit(), "PNG"),
    "16-bit tiff": encoded(sixteen_bit(), "TIFF"),
    "cmyk tiff": encoded(photo().convert("CMYK"), "TIFF"),
    "float tiff": encoded(Image.fromarray(np.random.default_rng(0).random((8, 8), "f4")), "TIFF"),
    "webp": encoded(photo(), "WEBP"),
    "rgba webp": encoded(half_clear(), "WEBP", lossless=True),
    "animated webp": encoded(photo(), "WEBP", save_all=True, append_images=[photo().rotate(180)]),
    "animated gif": encoded(photo(), "GIF", save_all=True, append_images=[photo().rotate(180)]),
    "animated png": encoded(photo(), "PNG", save_all=True, append_images=[photo().rotate(180)]),
    "bmp": encoded(photo(), "BMP"),
    "1x1": encoded(photo(1, 1), "PNG"),
    "8x6": encoded(photo(8, 6), "JPEG"),
    "exif jpeg": exif_turned("JPEG"),
    "exif png": exif_turned("PNG"),
    "exif tiff": exif_turned("TIFF"),
}
AS_THEY_ARE = {"jpeg", "grey jpeg", "png", "grey png", "bilevel png", "palette png", "webp"}
AS_THEY_ARE |= {"1x1", "8x6", "exif jpeg", "exif png"}


def jpeg_with_preview() -> bytes:
    return encoded(photo(), "MPO", save_all=True, append_images=[photo(8, 8)])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_its_pixels_when_stored(kind: str) -> None:
    data = KINDS[kind]
    stored = storable_image(data)
    assert (stored == data) == (kind in AS_THEY_ARE)
    assert open_image(data).mode == "RGB"
    np.testing.assert_array_equal(np.asarray(open_image(stored)), np.asarray(open_image(data)))


@pytest.mark.parametrize("kind", KINDS)
def test_other_readers_see_what_we_see(kind: str) -> None:
    """`datasets` turns by EXIF and image processors convert to RGB; neither does more."""
    from datasets import Image as ImageFeature

    stored = storable_image(KINDS[kind])
    theirs = ImageFeature().decode_example({"bytes": stored, "path": None}).convert("RGB")
    np.testing.assert_array_equal(np.asarray(theirs), np.asarray(open_image(stored)))


def test_a_phone_jpeg_with_a_preview_stays_as_it_is() -> None:
    data = jpeg_with_preview()
    assert Image.open(BytesIO(data)).format == "MPO"
    assert storable_image(data) == data
    assert open_image(data).size == (48, 32)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_exif_rotation_is_applied(kind: str) -> None:
    image: Any = open_image(exif_turned(kind))
    assert image.size == (20, 40)
    np.testing.assert_allclose(image.getpixel((10, 5)), RED, atol=3)
    np.testing.assert_allclose(image.getpixel((10, 35)), BLUE, atol=3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_cut(kind: str) -> None:
    values = np.array([[0, 128, 129, 257 * 100, 257 * 200, 65535]], np.uint16)
    image = open_image(encoded(Image.fromarray(values), kind))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 1, 100, 200, 255]


def test_floats_are_stretched_and_survive_nan() -> None:
    values = np.array([[-1.0, 0.0, 1.0, np.nan]], np.float32)
    image = open_image(encoded(Image.fromarray(values), "TIFF"))
    assert np.asarray(image)[0, :, 0].tolist() == [0, 128, 255, 128]


def test_transparency_lies_on_white() -> None:
    rgba = Image.new("RGBA", (2, 1), (0, 0, 0, 0))  # clear, with black hidden beneath
    rgba.putpixel((1, 0), (*GREEN, 255))
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([0, 0, 0, *GREEN])
    palette.putpixel((1, 0), 1)
    for data in (encoded(rgba, "PNG"), encoded(palette, "PNG", transparency=0)):
        for image in (open_image(data), Image.open(BytesIO(storable_image(data)))):
            assert [image.getpixel((x, 0)) for x in (0, 1)] == [WHITE, GREEN]


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    for kind in ("GIF", "PNG", "WEBP"):
        data = encoded(
            frames[0],
            kind,
            save_all=True,
            append_images=frames[1:],
            **({"lossless": True} if kind == "WEBP" else {}),
        )
        image = Image.open(BytesIO(storable_image(data)))
        assert image.getpixel((1, 1)) == RED
        assert getattr(image, "n_frames", 1) == 1


def test_very_large_images_are_shrunk() -> None:
    stored = storable_image(encoded(photo(6000, 300), "PNG"))
    image = Image.open(BytesIO(stored))
    assert (image.format, image.size) == ("JPEG", (MAX_SIDE, 205))
    assert len(stored) < 400_000
    small = np.asarray(photo(6000, 300).resize(image.size, Image.Resampling.LANCZOS), float)
    assert np.abs(np.asarray(image.convert("RGB"), float) - small).mean() < 3


def png_bomb(width: int, height: int) -> bytes:
    """A valid header that promises width x height pixels, with next to no data behind it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("read", [open_image, storable_image])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "zero bytes"),
        (b"a picture of a cat", "not an image"),
        (encoded(photo(), "JPEG")[:-100], "damaged .*truncated"),
        (encoded(photo(), "PNG")[:-60], "damaged"),
        (encoded(photo(), "PNG")[:20], "not an image|damaged"),
        (encoded(photo(), "TIFF")[:200], "not an image|damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (png_bomb(20_000, 20_000), "more than 178956970 pixels"),
        (png_bomb(13_400, 13_400), "more than 178956970 pixels"),
        (png_bomb(2**31 - 1, 1), "more than 178956970 pixels"),
    ],
)
def test_what_is_no_image_is_refused(read: object, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(data)  # type: ignore[operator]


def test_files_that_never_end_are_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    link = tmp_path / "zero.png"
    link.symlink_to("/dev/zero")
    for path in (pipe, link, tmp_path):
        with pytest.raises(InputError, match="a folder, device or pipe, not a file"):
            read_image_file(path)


def test_sparse_giant_files_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "giant.png"
    with path.open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(InputError, match="more than 1073741824 bytes"):
        read_image_file(path)


@pytest.mark.parametrize("name", ["absent.png", "bad\0name.png", "a" * 300, "\udcff\ud800.png"])
def test_names_of_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"does not exist|cannot be read"):
        read_image_file(tmp_path / name)
