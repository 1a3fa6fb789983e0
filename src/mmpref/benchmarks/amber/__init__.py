"""AMBER: descriptions of an image, and yes/no questions about it."""

from mmpref.benchmarks.benchmark import Benchmark
from mmpref.scoring.formats import ResponseFormat

_PARTS = ("generative", "discriminative", "existence", "attribute", "relation")

BENCHMARKS = tuple(
    Benchmark(
        name,
        kind="amber",
        data="amber",
        images="amber-images",
        responses=ResponseFormat(("array",), ("id",)),
        options=options,
        nltk=True,
    )
    for name, options in (("amber", {}), *((f"amber-{part}", {"part": part}) for part in _PARTS))
)
