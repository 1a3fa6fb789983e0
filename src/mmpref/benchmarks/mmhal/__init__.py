"""MMHal-Bench: a judge rates each answer from 0 to 6; in mmhal-v it sees the image."""

from mmpref.benchmarks.benchmark import Benchmark
from mmpref.scoring.formats import ResponseFormat

BENCHMARKS = tuple(
    Benchmark(
        name,
        kind="mmhal",
        data="mmhal",
        images="mmhal-images",
        responses=ResponseFormat(("array",), ("image_id",), ("model_answer",)),
        options={"image_judge": name == "mmhal-v"},
        judged="always",
    )
    for name in ("mmhal", "mmhal-v")
)
