"""Every study of the project, from a fresh clone without data, a judge or a network."""

import re
import subprocess
import sys
import time

import pytest

from conftest import ROOT
from mmpref.study.study import load

STUDIES = sorted((ROOT / "config" / "studies").glob("*.yaml"))
SHORT_ANSWERS = {"pope", "gqa", "vqa", "yesno"}
"""Kinds of benchmark whose answers are a word or two: training on preferences may hurt them."""


def named(path):
    return path.stem


@pytest.fixture
def keyless(monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def dry(checkout, study, *arguments):
    """Return what Snakemake prints about a study, and the seconds it took."""
    start = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", *arguments, "--cores", "1"),
            *("--configfile", str(study.relative_to(ROOT))),
        ],
        cwd=checkout.folder,
        env=checkout.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout, time.monotonic() - start


@pytest.mark.parametrize("study", STUDIES, ids=named)
def test_a_study_is_planned_from_a_fresh_clone(study, checkout, keyless):
    printed, seconds = dry(checkout, study, "--dry-run")
    table = printed.split("Job stats:", 1)[1].split("total", 1)[0]
    jobs = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.M)}
    runs = load(study).runs.values()
    assert jobs["train"] == sum(len(run.seeds) for run in runs if run.objective)
    scored = sum(len(run.seeds) for run in runs)
    assert jobs["score"] == scored * len(load(study).benchmarks)
    # 20 seconds is what people were promised; a busy machine gets more.
    assert seconds < 60


@pytest.mark.parametrize("study", STUDIES, ids=named)
def test_the_rules_of_a_study_fit_on_a_page(study, checkout, keyless):
    graph, _ = dry(checkout, study, "--rulegraph")
    rules = re.findall(r"label = \"(\w+)", graph)
    assert len(set(rules)) == len(rules)
    assert len(rules) <= 30


@pytest.mark.parametrize("study", STUDIES, ids=named)
def test_a_study_of_trainings_has_a_check_of_short_answers(study):
    kinds = {part.kind for part in load(study).benchmarks.values()}
    # Its projector is untrained: nothing it says is measured.
    assert kinds & SHORT_ANSWERS or study.stem == "photos"


@pytest.mark.parametrize("study", STUDIES, ids=named)
def test_no_training_of_a_study_is_run_twice(study):
    trainings = [
        run.for_one_seed.model_dump_json()
        for run in load(study).runs.values()
        if run.objective is not None
    ]
    assert len(set(trainings)) == len(trainings)
