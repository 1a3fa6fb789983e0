"""What runs are scored on, how their answers are made, and the judges.

The folders of `mmpref.benchmarks` are the kinds of benchmark, its files the sources a study can
name; neither is listed anywhere.
"""

import importlib
import importlib.util
import pkgutil
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from mmpref.study.parts import Count, Part, Positive

if TYPE_CHECKING:
    from mmpref.records.items import Item

PACKAGE = "mmpref.benchmarks"


class BenchmarkSource(Part):
    """A source of benchmark items with its settings; `source` is what a study calls it.

    Adding one is a file in `mmpref/benchmarks`: a class with a `source` of its own.
    """

    max_new_tokens: Count = Field(512, description="limit of a response, in tokens")

    later: ClassVar[frozenset[str]] = frozenset({"max_new_tokens"})
    """The fields that change no item: other rules have them among their parameters."""

    @property
    def seeded(self) -> bool:
        """Whether the items depend on the study's seed."""
        return True

    @property
    @abstractmethod
    def kind(self) -> str:
        """The kind of its items, a folder of `mmpref.benchmarks` with - for _."""

    @property
    def measures(self) -> str:
        """What published numbers call it: its kind, or the name of a public benchmark."""
        return self.kind

    def lacks(self, metric: str) -> str | None:
        """Return why it will not have a metric, as far as the study says; None if it may."""
        return None

    @property
    def downloads(self) -> Iterable[str]:
        """The names in `mmpref/downloads.yaml` that it is made from."""
        return ()

    @property
    def references(self) -> Mapping[str, tuple[str, str]]:
        """What it names elsewhere in the study: by field the table (`datasets`) and the name."""
        return {}

    @abstractmethod
    def make_items(self, seed: int, files: Mapping[str, Path]) -> "Iterable[Item]":
        """Return its items; `seed` is the study's, `files` holds what the workflow made for it.

        Raises InputError when a file is missing or cannot be read.
        """


class Responses(Part):
    """How answers to benchmarks are made: greedily, which no setting here changes."""

    shards: Count = Field(1, description="jobs the answers to a benchmark are split into")
    batch_size: Count = Field(32, description="answers made side by side")


class Judge(Part):
    """A judge model behind an OpenAI-compatible endpoint; where it is, the environment says.

    A local server of the same API (vLLM, llama.cpp, Ollama) is a free one: `key_variable: null`.
    """

    model: str = Field(description="the model to ask for; a reply of another one is an error")
    returns: list[str] = Field(
        default_factory=list, description="other names under which it may answer"
    )
    url_variable: str = Field("OPENAI_BASE_URL", description="environment variable of the base URL")
    key_variable: str | None = Field(
        "OPENAI_API_KEY", description="environment variable of the key; null: it needs none"
    )
    concurrency: Count = Field(4, description="calls at the same time")
    retries: int = Field(6, ge=0, description="of a failed call, with back-off")
    timeout: Positive = Field(120.0, description="seconds a call may take")
    input_price: float | None = Field(None, ge=0, description="of a million prompt tokens")
    output_price: float | None = Field(None, ge=0, description="of a million completion tokens")


@cache
def kinds() -> tuple[str, ...]:
    """Return the kinds of benchmark, by name."""
    folder = importlib.import_module(PACKAGE)
    found = (one.name for one in pkgutil.iter_modules(folder.__path__) if one.ispkg)
    return tuple(sorted(name.replace("_", "-") for name in found))


@cache
def module_of(kind: str, name: str) -> ModuleType | None:
    """Return the module of a kind of benchmark that is called `name`, None if it has none."""
    module = f"{PACKAGE}.{kind.replace('-', '_')}.{name}"
    return importlib.import_module(module) if importlib.util.find_spec(module) else None
