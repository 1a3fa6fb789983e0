"""GQA: questions about scenes, with one short answer each."""

from mmpref.benchmarks.benchmark import Benchmark
from mmpref.scoring.formats import AnswerFormat

_ANSWERS = AnswerFormat(("array",), ("questionId",), ("prediction",))
BENCHMARKS = (Benchmark("gqa", kind="gqa", data="gqa", images="gqa-images", answers=_ANSWERS),)
