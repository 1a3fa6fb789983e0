"""GQA: questions about scenes, with one short answer each."""

from mmpref.benchmarks.benchmark import Benchmark
from mmpref.scoring.formats import ResponseFormat

_RESPONSES = ResponseFormat(("array",), ("questionId",), ("prediction",))
BENCHMARKS = (Benchmark("gqa", kind="gqa", data="gqa", images="gqa-images", responses=_RESPONSES),)
