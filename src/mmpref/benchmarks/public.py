"""Benchmarks of the papers, from their own files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from mmpref.benchmarks.benchmark import Benchmark, benchmarks, named
from mmpref.errors import InputError
from mmpref.study.benchmarks import BenchmarkSource
from mmpref.study.parts import Count, Name

if TYPE_CHECKING:
    from mmpref.records.items import Item


def _known(name: str) -> str:
    try:
        return named(name).name
    except InputError as error:
        raise ValueError(str(error)) from None


def _with_names(schema: dict[str, Any]) -> None:
    schema["enum"] = sorted(benchmarks())


class PublicBenchmark(BenchmarkSource):
    """A benchmark of the papers: downloaded, or in a folder of one's own."""

    source: Literal["public"]
    benchmark: Annotated[str, AfterValidator(_known), Field(json_schema_extra=_with_names)]
    data: str | None = Field(None, description="folder with its files; default: download them")
    images: str | None = Field(None, description="folder with its images; default: download them")
    items: Count | None = Field(
        None, description="`chair` only: that many COCO val2014 images, drawn with the study's seed"
    )
    prompt: str = Field(
        "{question}", description="what the model is asked, around the benchmark's question"
    )
    similarity: Literal["exact", "embeddings", "spacy"] = Field(
        "exact", description="AMBER only: when a noun counts as another one (above 0.8)"
    )
    judge: Name | None = Field(None, description="a name under `judges`")
    judge_runs: Count = Field(1, description="how often each answer is judged (MM-Vet: 5)")

    later: ClassVar[frozenset[str]] = BenchmarkSource.later | {"similarity", "judge", "judge_runs"}

    @model_validator(mode="after")
    def _whole(self) -> "PublicBenchmark":
        judged, subsets = self.entry.judged, self.entry.subsets
        if judged == "always" and not self.judge:
            raise ValueError(
                f"{self.benchmark} is scored by a judge model; give `judge`, a name under `judges`"
            )
        if self.judge and judged == "never":
            raise ValueError(f"{self.benchmark} is scored without a judge; leave `judge` out")
        if (self.items is None) == subsets:
            raise ValueError("`items` is given for `chair` (500 in most papers), and only there")
        if "{question}" not in self.prompt:
            raise ValueError("`prompt` lacks {question}, the place of the benchmark's question")
        return self

    @property
    def entry(self) -> Benchmark:
        """The benchmark it names."""
        return named(self.benchmark)

    @property
    def kind(self) -> str:
        """The kind of the benchmark it names."""
        return self.entry.kind

    @property
    def measures(self) -> str:
        """The benchmark it names."""
        return self.benchmark

    def lacks(self, metric: str) -> str | None:
        """Return why it will not have a metric: what a judge would find without a judge."""
        by_rules = self.entry.judged == "optional" and not self.judge
        if by_rules and not metric.startswith("rules/"):
            return f"has no judge and so no {metric}"
        return None

    @property
    def downloads(self) -> Iterable[str]:
        """Its files and images, where they are not the user's own."""
        entry = self.entry
        found = [*([] if self.data else [entry.data]), *([] if self.images else [entry.images])]
        found += [entry.beside] if entry.beside and not self.data else []
        return [*found, *(["nltk_data"] if entry.nltk else [])]

    @property
    def seeded(self) -> bool:
        """Whether its items are a sample."""
        return self.items is not None

    @property
    def references(self) -> Mapping[str, tuple[str, str]]:
        """The judge."""
        return {"judge": ("judges", self.judge)} if self.judge else {}

    def make_items(self, seed: int, files: Mapping[str, Path]) -> "Iterable[Item]":
        """Return the items with their images, from the folders `data` and `images`.

        Raises InputError when files are missing or of another version, or images are too few.
        """
        data = files["data"]
        drawn = {"images": self._sample(data, seed, self.items)} if self.items else {}
        items = self.entry.items(data, **drawn)
        if not all(item.images for item in items):
            items = with_images(items, files["images"])
        return [replace(one, prompt=self.prompt.replace("{question}", one.prompt)) for one in items]

    def _sample(self, data: Path, seed: int, size: int) -> set[str]:
        from mmpref.randomness import generator

        known = self.entry.reader.image_ids(data)
        if size > len(known):
            raise InputError(f"{data}: has {len(known)} images, not {size}; ask for fewer")
        places = generator(seed, "benchmark", self.kind).permutation(len(known))[:size]
        return {known[place] for place in places}


def with_images(items: "Sequence[Item]", folder: Path) -> "list[Item]":
    """Return the items with the paths of their images in `folder`.

    Raises InputError when an image is not there, with the number of those that are not.
    """
    files = {path.name: path for path in folder.rglob("*") if path.is_file()}
    missing = sorted({str(item.truth["image"]) for item in items} - files.keys())
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} images of the benchmark are not there "
            f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}); copy them there"
        )
    return [replace(item, images=(files[str(item.truth["image"])],)) for item in items]
