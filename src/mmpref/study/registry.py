"""What a study can name, found by looking into a folder: there is no list to add it to.

Every job of a cluster imports all of it to read the study, so what takes time to import (torch,
pyarrow, PIL) is imported where it is used.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Annotated, Any, Union, get_args

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from mmpref.errors import InputError
from mmpref.study.parts import Part


def modules(package: str) -> Iterator[ModuleType]:
    """Yield what lies in the folder of a package: its modules and subpackages, by name."""
    folder = importlib.import_module(package)
    for found in sorted(pkgutil.iter_modules(folder.__path__), key=lambda found: found.name):
        yield importlib.import_module(f"{package}.{found.name}")


@cache
def kinds(package: str, tag: str) -> dict[str, type[Part]]:
    """Return the parts of a study that a package declares, by the value of their field `tag`.

    Raises InputError when two files declare the same value.
    """
    found: dict[str, type[Part]] = {}
    for module in modules(package):
        for part in vars(module).values():
            declared = getattr(part, "__module__", None) == module.__name__
            if not (declared and isinstance(part, type) and issubclass(part, Part)):
                continue
            value = tag_of(part, tag)
            if value in found:
                raise InputError(
                    f"{module.__file__}: {tag} {value!r} is already declared in "
                    f"{importlib.import_module(found[value].__module__).__file__}; "
                    "choose another name"
                )
            if value is not None:
                found[value] = part
    return found


def tag_of(part: type[Part], tag: str) -> str | None:
    """Return the value that tells a part from the others of its kind; None if it has none."""
    values = get_args(part.model_fields[tag].annotation) if tag in part.model_fields else ()
    return values[0] if len(values) == 1 else None


@dataclass(frozen=True)
class OneOf:
    """As `Annotated[Part, OneOf(package, tag)]`: any part that the package declares."""

    package: str
    tag: str

    @property
    def parts(self) -> dict[str, type[Part]]:
        """The parts by their tag."""
        return kinds(self.package, self.tag)

    def __get_pydantic_core_schema__(
        self, source: type[Part], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return pydantic's schema of the union."""
        union: Any = Union[tuple(self.parts.values())]  # noqa: UP007
        return handler.generate_schema(Annotated[union, Field(discriminator=self.tag)])
