"""GQA: questions about scenes, with one short answer each."""

from mmpref.benchmarks.benchmark import Benchmark
from mmpref.scoring.formats import AnswerFormat

BENCHMARKS = (
    Benchmark(
        "gqa",
        kind="gqa",
        data="gqa",
        images="gqa-images",
        answers=AnswerFormat(("array",), ("questionId",), ("prediction",)),
    ),
)
