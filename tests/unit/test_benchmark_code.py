"""What an edit of a benchmark reruns, as the digests see it; tests/workflow asks Snakemake."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mmpref.digest import _module, digest
from mmpref.study.benchmarks import kinds

ROOT = Path(__file__).parents[2]
KINDS = [kind.replace("-", "_") for kind in kinds()]
OTHERS = [
    "respond_shard.py",
    "train.py",
    "reference_shard.py",
    "reference.py",
    "sample_shard.py",
    "sample_merge.py",
    "dataset.py",
]


@pytest.fixture
def changed(tmp_path) -> Callable[[str], set[str]]:
    """A function from an edited file of the package to what would be run again."""
    for name in ("src", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    scripts, source = tmp_path / "scripts", tmp_path / "src"
    folder = source / "mmpref" / "benchmarks"

    def digests() -> dict[str, str]:
        _module.cache_clear()
        jobs = {script: [scripts / script] for script in OTHERS}
        for kind in KINDS:
            score, items = folder / kind / "score.py", folder / kind / "items.py"
            jobs[f"score {kind}"] = [scripts / "score.py", score]
            jobs[f"judge {kind}"] = [scripts / "judge.py", score]
            made = [items] if items.is_file() else []
            jobs[f"items {kind}"] = [scripts / "benchmark.py", folder / "public.py", *made]
        return {job: digest(files, source) for job, files in jobs.items()}

    def edit(file: str) -> set[str]:
        path = source / "mmpref" / file
        before, text = digests(), path.read_text()
        path.write_text(text + ("\nMore.\n" if path.suffix == ".txt" else "\nMORE = 1\n"))
        after = digests()
        path.write_text(text)
        return {job for job in before if before[job] != after[job]}

    return edit


def both(*edited: str) -> set[str]:
    return {f"{job} {kind}" for kind in edited for job in ("score", "judge")}


@pytest.mark.parametrize(
    ("file", "jobs"),
    [
        ("benchmarks/mmhal/judge.txt", both("mmhal")),
        ("benchmarks/object_halbench/judge.txt", both("object_halbench")),
        ("benchmarks/pope/score.py", both("pope")),
        # Object HalBench finds mentions as CHAIR does, AMBER and POPE read yes and no alike.
        ("benchmarks/chair/score.py", both("chair", "object_halbench")),
        ("benchmarks/yesno/score.py", both("yesno", "amber", "pope")),
        ("scoring/verdicts.py", both(*KINDS)),
        ("scoring/judged.py", both("llava_bench", "mm_vet", "mmhal", "object_halbench")),
        ("benchmarks/gqa/items.py", {"items gqa"}),
        ("benchmarks/public.py", {f"{job} {kind}" for kind in KINDS for job in ("items", "score")}),
        ("downloads.yaml", set()),
        ("study/benchmarks.py", set()),
    ],
)
def test_an_edit_of_a_benchmark_reruns_what_uses_it(changed, file, jobs):
    assert changed(file) == jobs
