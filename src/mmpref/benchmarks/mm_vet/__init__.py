"""MM-Vet: a judge gives each answer 0 to 1."""

from mmpref.benchmarks.benchmark import Benchmark
from mmpref.scoring.formats import ResponseFormat

BENCHMARKS = (
    Benchmark(
        "mm-vet",
        kind="mm-vet",
        data="mm-vet",
        images="mm-vet",
        responses=ResponseFormat(("mapping",)),
        judged="always",
    ),
)
