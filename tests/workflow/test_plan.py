"""What a study will take, asked before anything runs."""

import os
import subprocess
import sys

import pytest


@pytest.fixture
def planned(checkout):
    """Return a function that plans the checkout's study: exit status and all that was printed."""

    def run() -> tuple[int, str]:
        keyless = {name: value for name, value in os.environ.items() if "OPENAI" not in name}
        done = subprocess.run(
            [sys.executable, "scripts/plan.py", "--configfile", "study.yaml"],
            cwd=checkout.folder,
            env=keyless,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    return run


def test_the_plan_counts_the_jobs_and_makes_nothing(checkout, planned):
    status, text = planned()
    assert status == 0, text
    jobs = checkout.planned()
    assert jobs["published"] == 1
    for rule, number in jobs.items():
        assert f"  {rule}: {number}\n" in text
    assert f"in all: {sum(jobs.values())}" in text
    assert not (checkout.folder / "results").exists()


def test_a_judged_study_is_planned_without_a_key(checkout, planned):
    judged = {"source": "public", "benchmark": "mmhal", "judge": "gpt"}
    checkout.change_study(
        lambda study: study.update(
            judges={"gpt": {"model": "a-judge"}}, benchmarks={"mmhal": judged}, published=None
        )
    )
    status, text = planned()
    assert status == 0, text
    # It is not the plan's business.
    assert "OPENAI" not in text
    assert "mmhal: at most 288 calls to a-judge; price unknown" in text


def test_a_published_metric_that_the_study_lacks_ends_the_plan(checkout, planned):
    checkout.change_study(lambda study: study["published"].update(benchmarks={}))
    status, text = planned()
    assert status == 1
    assert "'Table 1: base' has the metric captions/CHAIRs, which the study lacks" in text
    assert "Traceback" not in text
