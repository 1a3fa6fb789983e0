"""LLaVA-Bench, in the wild and COCO: a judge scores an answer beside GPT-4's."""

from mmpref.benchmarks.benchmark import Benchmark
from mmpref.scoring.formats import ResponseFormat

BENCHMARKS = tuple(
    Benchmark(
        f"llava-bench-{version}",
        kind="llava-bench",
        data=f"llava-bench-{version}",
        images=images,
        responses=ResponseFormat(("lines",), ("question_id",), ("answer", "text")),
        options={"version": version},
        judged="always",
    )
    for version, images in (("coco", "coco-val2014"), ("in-the-wild", "llava-bench-in-the-wild"))
)
