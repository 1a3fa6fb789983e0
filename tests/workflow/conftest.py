"""A checkout of its own, in which Snakemake is run as a user runs it."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "workflow" / "tiny.yaml"
PARTS = (
    *("Snakefile", "pyproject.toml", "workflow", "config", "envs", "profiles", "slurm"),
    *("scripts", "src"),
)


class Checkout:
    """A copy of the workflow with a study in `study.yaml`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        shutil.copy(TINY.with_name("tiny_published.yaml"), folder / "config/published/tiny.yaml")
        self.write_study(yaml.safe_load(TINY.read_text()))

    def write_study(self, study: dict) -> None:
        (self.folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))

    def change_study(self, change: Callable[[dict], None]) -> None:
        study = yaml.safe_load((self.folder / "study.yaml").read_text())
        change(study)
        self.write_study(study)

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert old in text, f"{old!r} is not in {file}"
        path.write_text(text.replace(old, new, 1))

    def command(self, *arguments: str) -> list[str]:
        return [
            *(sys.executable, "-m", "snakemake", "--configfile", "study.yaml"),
            *("--cores", "2", *arguments),
        ]

    @property
    def environment(self) -> dict[str, str]:
        # `python` in the rules is the one that runs the tests, as in an activated environment.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path}

    def snakemake(self, *arguments: str, check: bool = True) -> str:
        """Run Snakemake; return all it printed."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert not check or done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def planned(self, *arguments: str) -> Counter[str]:
        """Return how many jobs of each rule Snakemake would run."""
        printed = self.snakemake("--dry-run", *arguments)
        if "Nothing to be done" in printed:
            return Counter()
        table = printed.split("Job stats:", 1)[1].split("total", 1)[0]
        return Counter(
            {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.M)}
        )

    def outputs(self) -> dict[str, bytes]:
        """Return the content of the files that must not depend on how a study was run."""
        results = self.folder / "results"
        patterns = (
            "tables/*.csv",
            "responses/**/*.jsonl",
            "preferences/*/*.parquet",
            "reference/**/*.parquet",
            "report/index.html",
        )
        return {
            str(path.relative_to(results)): path.read_bytes()
            for pattern in patterns
            for path in sorted(results.glob(pattern))
        }


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the tiny study has run; not to be changed."""
    checkout = Checkout(tmp_path_factory.mktemp("finished"))
    checkout.snakemake()
    return checkout


@pytest.fixture
def copy_of_finished(finished: Checkout, tmp_path: Path) -> Checkout:
    """A copy of it to change."""
    folder = tmp_path / "checkout"
    # Snakemake compares modification times, so they are kept.
    shutil.copytree(finished.folder, folder, symlinks=True)
    copied = Checkout.__new__(Checkout)
    copied.folder = folder
    return copied


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout in which nothing has run."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    return Checkout(folder)
