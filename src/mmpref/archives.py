"""Zip archives of others: nothing in them is trusted, neither a path nor a size."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmpref.errors import InputError

MOST_EXPANDED = 200
"""How many times its packed size a member, or the whole archive, may have; text reaches 20."""

UNSUSPICIOUS = 16 * 2**20
"""Bytes that may be unpacked whatever their packed size: small files of one colour, say."""

DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
"""What reading a damaged, encrypted or unknown archive raises (NotImplementedError is one too)."""


class ArchiveError(InputError):
    """An archive is missing, damaged or a bomb."""


@contextmanager
def opened_zip(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive whose members may be read to their stated size.

    A member never yields more than the archive's directory states, so the sizes there decide.

    Raises:
        ArchiveError: it is missing or damaged, also where the block reads it, or it is a zip bomb:
            unpacked, a member or all together are out of proportion to what is packed.
    """
    if not Path(path).is_file():
        raise ArchiveError(f"{path}: does not exist; get it, or correct the path")
    try:
        with zipfile.ZipFile(path) as zipped:
            members = zipped.infolist()
            for member in members:
                _demand_proportion(path, member.filename, member.file_size, member.compress_size)
            unpacked = sum(member.file_size for member in members)
            _demand_proportion(path, "all together", unpacked, Path(path).stat().st_size)
            yield zipped
    except DAMAGE as error:
        raise ArchiveError(
            f"{path}: is not a zip archive that can be read ({error}); get it again"
        ) from None


def _demand_proportion(path: str | Path, what: str, unpacked: int, packed: int) -> None:
    if unpacked > MOST_EXPANDED * packed + UNSUSPICIOUS:
        raise ArchiveError(
            f"{path}: refused as a zip bomb ({what}: {packed} bytes would become {unpacked}); get "
            "it from its source again"
        )
