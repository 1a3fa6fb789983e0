"""Object HalBench: COCO objects that detailed answers hallucinate, by a judge or by rules."""

from mmpref.benchmarks.benchmark import Benchmark
from mmpref.benchmarks.chair import image_id
from mmpref.scoring.formats import ResponseFormat

BENCHMARKS = (
    Benchmark(
        "object-halbench",
        kind="object-halbench",
        data="object-halbench",
        images="object-halbench",
        responses=ResponseFormat(("lines",), ("image_id",), ("answer", "text"), normal_id=image_id),
        beside="chair",
        nltk=True,
        judged="optional",
    ),
)
