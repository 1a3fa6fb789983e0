"""The images that the rows of a dataset name: in a folder or a zip archive, never outside of it."""

import os
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mmpref.archives import DAMAGE, opened_zip
from mmpref.errors import InputError
from mmpref.records.images import MAX_FILE_BYTES, read_image_file


class ImageFolder:
    """A folder of images, or a zip archive of them, which is read without being unpacked.

    Raises InputError when there is neither.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._archive: zipfile.ZipFile | None = None
        self._opened = ExitStack()
        if self.path.suffix.lower() == ".zip" and self.path.is_file():
            self._archive = self._opened.enter_context(opened_zip(self.path))
        elif not self.path.is_dir():
            raise InputError(
                f"{self.path}: is neither a folder of images nor a zip archive; get the images, or "
                "correct the path"
            )

    def image(self, *names: str) -> "NamedImage":
        """Return the image that has the first of `names` that is there; it is not looked for yet.

        Names are paths in the folder. An absolute one must lead there.
        """
        return NamedImage(self, names)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if it is not there.

        Raises InputError, whose message is a predicate ("leaves the image folder (../x)"), when the
        name leads out of the folder or the file is not one that `read_image_file` reads.
        """
        inside = self._inside(name)
        path = self.path / inside
        if self._archive is None:
            return read_image_file(path) if os.path.lexists(path) else None
        try:
            member = self._archive.getinfo(inside)
        except KeyError:
            return None
        if member.file_size > MAX_FILE_BYTES:
            raise InputError(f"has more than {MAX_FILE_BYTES} bytes ({path})")
        try:
            return self._archive.read(member)
        except DAMAGE as error:
            raise InputError(f"cannot be read ({path}: {error})") from None

    def _inside(self, name: str) -> str:
        # By the names alone: a link that the owner of the folder put there may lead elsewhere, but
        # `..` after it would too, so what is opened is the path without any.
        if os.path.isabs(name):
            inside = os.path.relpath(name, os.path.abspath(self.path))
        else:
            inside = os.path.normpath(name)
        if inside.split(os.sep)[0] == os.pardir:
            raise InputError(f"leaves the image folder ({name})")
        return inside


@dataclass(frozen=True)
class NamedImage:
    """An image of a folder, by the names that it may have there."""

    folder: ImageFolder
    names: tuple[str, ...]

    def __str__(self) -> str:
        return str(self.folder.path / self.names[0])

    def read(self) -> bytes:
        """Return its content. Raises InputError as `ImageFolder.read`, also when it is missing."""
        for name in self.names:
            if (data := self.folder.read(name)) is not None:
                return data
        others = f", nor as {', '.join(self.names[1:])}" if self.names[1:] else ""
        raise InputError(f"does not exist ({self}{others})")
