import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from mmpref.archives import UNSUSPICIOUS, opened_zip
from mmpref.errors import InputError
from mmpref.records.folders import ImageFolder


def png(colour: str = "red") -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 6), colour).save(file, "PNG")
    return file.getvalue()


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(name.replace("__", "/"), content)
    return path


@pytest.fixture(params=["folder", "zip"])
def images(request: pytest.FixtureRequest, tmp_path: Path) -> ImageFolder:
    """The same two images in a folder and in a zip archive."""
    if request.param == "zip":
        return ImageFolder(
            archive(tmp_path / "i.zip", **{"a.png": png(), "in__b.png": png("blue")})
        )
    (tmp_path / "images" / "in").mkdir(parents=True)
    (tmp_path / "images" / "a.png").write_bytes(png())
    (tmp_path / "images" / "in" / "b.png").write_bytes(png("blue"))
    return ImageFolder(tmp_path / "images")


def test_the_first_name_that_is_there_counts(images: ImageFolder) -> None:
    assert images.image("a.png").read() == png()
    assert images.image("b.png", "in/b.png", "a.png").read() == png("blue")
    assert images.image("in/../a.png").read() == png()
    assert images.image(str(Path(images.path, "in", "b.png").absolute())).read() == png("blue")


@pytest.mark.parametrize("name", ["../a.png", "in/../../a.png", "/etc/passwd", "..", "/"])
def test_no_name_leaves_the_folder(images: ImageFolder, name: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    with pytest.raises(InputError, match=r"^leaves the image folder \("):
        images.image(name).read()
    # Not even when another name is good.
    with pytest.raises(InputError, match=r"^leaves the image folder \("):
        images.image(name, "a.png").read()


def test_a_missing_image_is_named_by_all_its_names(images: ImageFolder) -> None:
    with pytest.raises(InputError) as error:
        images.image("x.png", "y.png").read()
    assert str(error.value) == f"does not exist ({images.path}/x.png, nor as y.png)"


def test_members_that_climb_out_of_an_archive_are_not_there(tmp_path: Path) -> None:
    path = archive(tmp_path / "i.zip", **{"..__evil.png": png(), "a.png": png()})
    images = ImageFolder(path)
    with pytest.raises(InputError, match="leaves the image folder"):
        images.image("../evil.png").read()
    with pytest.raises(InputError, match="does not exist"):
        images.image("evil.png").read()


def test_a_damaged_member_is_one_bad_image(tmp_path: Path) -> None:
    path = tmp_path / "i.zip"
    with zipfile.ZipFile(path, "w") as zipped:  # stored, so that its bytes can be found
        zipped.writestr("a.png", png())
        zipped.writestr("b.png", png("blue"))
    content = path.read_bytes()
    place = content.index(png()) + 20
    path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
    images = ImageFolder(path)
    with pytest.raises(InputError, match=r"^cannot be read \(.*a\.png: Bad CRC"):
        images.image("a.png").read()
    assert images.image("b.png").read() == png("blue")


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"bomb.png": bytes(2 * UNSUSPICIOUS), "a.png": png()}, "bomb.png"),
        ({f"{n}.png": bytes(UNSUSPICIOUS // 2) for n in range(5)}, "all together"),
    ],
    ids=["one", "many"],
)
def test_a_zip_bomb_is_refused_before_anything_is_read(
    tmp_path: Path, members: dict[str, bytes], named: str
) -> None:
    path = archive(tmp_path / "i.zip", **members)
    with pytest.raises(InputError, match=rf"i\.zip: refused as a zip bomb \({named}: \d+ bytes"):
        ImageFolder(path)


def test_a_member_gives_no_more_than_its_stated_size(tmp_path: Path) -> None:
    """A bomb may lie about its size in the directory, but then it is cut there."""
    path = archive(tmp_path / "i.zip", **{"a.png": bytes(2 * UNSUSPICIOUS)})
    content = path.read_bytes()
    true, stated = (size.to_bytes(4, "little") for size in (2 * UNSUSPICIOUS, 1000))
    assert content.count(true) == 2  # in the member's header and in the directory
    path.write_bytes(content.replace(true, stated))
    images = ImageFolder(path)
    with pytest.raises(InputError, match=r"^cannot be read \(.*Bad CRC"):
        images.image("a.png").read()


def test_files_that_are_no_archives(tmp_path: Path) -> None:
    (tmp_path / "i.zip").write_bytes(b"PK\x03\x04 but then nothing")
    with pytest.raises(InputError, match=r"i\.zip: is not a zip archive that can be read"):
        ImageFolder(tmp_path / "i.zip")
    with (
        pytest.raises(InputError, match=r"absent\.zip: does not exist"),
        opened_zip(tmp_path / "absent.zip"),
    ):
        pass
    (tmp_path / "a.png").write_bytes(png())
    with pytest.raises(InputError, match="is neither a folder of images nor a zip archive"):
        ImageFolder(tmp_path / "a.png")
