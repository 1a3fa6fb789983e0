"""What a public benchmark is, and which there are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmpref.errors import InputError
from mmpref.scoring.formats import ResponseFormat
from mmpref.study.benchmarks import PACKAGE, module_of
from mmpref.study.registry import modules

if TYPE_CHECKING:
    from mmpref.records.items import Item


@dataclass(frozen=True)
class Benchmark:
    """A public benchmark, called `name` in a study and on the command line.

    `kind` is its folder (with - for _), whose function `items` takes a folder laid out like the
    download `data` (a name in `mmpref/downloads.yaml`), and `options`; `images` names the download
    with the image files, `responses` says how the official scorer takes them. Where `subsets` is
    true, responses to some of the items are a benchmark of their own, as with CHAIR, whose items
    are whichever COCO images were described. `beside` names a download that is expected in the same
    folder as that of `data`. `nltk`: reading or scoring takes NLTK's data.
    """

    name: str
    kind: str
    data: str
    images: str
    responses: ResponseFormat
    options: Mapping[str, Any] = field(default_factory=dict)
    subsets: bool = False
    beside: str | None = None
    nltk: bool = False
    judged: Literal["never", "optional", "always"] = "never"

    @property
    def reader(self) -> Any:
        """The module that reads its items."""
        return module_of(self.kind, "items")

    def items(self, folder: Path, **more: Any) -> "list[Item]":
        """Return its items. Raises InputError when a file in the folder is missing or foreign."""
        return self.reader.items(folder, **self.options, **more)


@cache
def benchmarks() -> dict[str, Benchmark]:
    """Return the public benchmarks by name. Raises InputError when a name is declared twice."""
    found: dict[str, Benchmark] = {}
    files: dict[str, str | None] = {}
    for module in modules(PACKAGE):
        for one in getattr(module, "BENCHMARKS", ()):
            if one.name in found:
                raise InputError(
                    f"{module.__file__}: benchmark {one.name!r} is already declared in "
                    f"{files[one.name]}; choose another name"
                )
            found[one.name], files[one.name] = one, module.__file__
    return found


def named(name: str) -> Benchmark:
    """Return a public benchmark. Raises InputError when there is none of that name."""
    known = benchmarks()
    if name not in known:
        close = get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise InputError(f"unknown benchmark {name!r}; {hint}valid are: {', '.join(known)}")
    return known[name]
