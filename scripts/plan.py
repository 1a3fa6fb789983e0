"""What a study will take, before anything runs: `python scripts/plan.py --configfile STUDY`."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Typed by a person, not run by a rule, which would set the path.
sys.path.insert(0, str(ROOT / "src"))

from mmpref.cli import run  # noqa: E402
from mmpref.errors import InputError  # noqa: E402
from mmpref.study.plan import plan  # noqa: E402
from mmpref.study.study import load  # noqa: E402


def main(configfile: Path) -> None:
    """Print jobs, GPU hours, memory, disk, downloads and judge calls of a study.

    Args:
        configfile: the study
    """
    study = load(configfile)
    print(plan(study, jobs_of(configfile)))


def jobs_of(configfile: Path) -> dict[str, int]:
    """Return how many jobs of each rule Snakemake would run.

    Raises InputError with Snakemake's words when it cannot say.
    """
    done = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")),
            *("--configfile", str(configfile), "--dry-run", "--cores", "1"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise InputError(f"{configfile}: Snakemake cannot plan it:\n{done.stdout.strip()}")
    table = done.stdout.partition("Job stats:")[2].partition("\ntotal")[0]
    return {rule: int(number) for rule, number in re.findall(r"^(\w+) +(\d+)$", table, re.M)}


if __name__ == "__main__":
    run(main)
