"""POPE: yes/no questions about objects that are there, or might well be."""

from typing import Any

from mmpref.benchmarks.benchmark import Benchmark
from mmpref.scoring.formats import ResponseFormat

_SETTINGS = ("random", "popular", "adversarial")
_SOURCES = (("coco", "coco-val2014"), ("aokvqa", "coco-val2014"), ("gqa", "gqa-images"))


def _benchmark(name: str, images: str, data: str = "pope", **options: Any) -> Benchmark:
    responses = ResponseFormat(("lines",), ("question_id",), ("answer", "text"), questions=True)
    return Benchmark(name, "pope", data, images, responses, options)


BENCHMARKS = (
    *(_benchmark(f"pope-{source}", images, source=source) for source, images in _SOURCES),
    *(
        _benchmark(f"pope-{source}-{setting}", images, source=source, settings=(setting,))
        for source, images in _SOURCES
        for setting in _SETTINGS
    ),
    _benchmark("pope-coco-random-2910", "coco-val2014", "pope-2910", settings=("random-2910",)),
)
