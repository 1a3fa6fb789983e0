"""Ctrl-C in every stage; the same command then ends with what an undisturbed run makes."""

import os
import signal
import subprocess
import time

import pytest

# What Snakemake says when it starts a stage's job, in the order of the graph.
MESSAGES = {
    "toy_model": "Pretraining the toy model",
    "toy_pairs": "Drawing the toy world's pairs",
    "bdhs_shard": "Sampling rejected answers",
    "bdhs_merge": "Putting the shards",
    "reference_degraded": "Reference log-probabilities under degraded images",
    "train": "Training mdpo",
    "respond": "Answers of mdpo",
    "score": "Scoring mdpo",
    "tables": "Tables",
    "page": "The report page",
}


def interrupt(checkout, message: str, seconds: float) -> str:
    """Start Snakemake, press Ctrl-C `seconds` after a job's message; return what was printed."""
    process = subprocess.Popen(
        checkout.command(),
        cwd=checkout.folder,
        env={**checkout.environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A group of its own, as a terminal's foreground job is.
        process_group=0,
    )
    assert process.stdout is not None
    printed = []
    for line in process.stdout:
        printed.append(line)
        if message in line:
            time.sleep(seconds)
            os.killpg(process.pid, signal.SIGINT)
            break
    printed.append(process.stdout.read())
    assert process.wait(timeout=120) != 0, "".join(printed)[-4000:]
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    return "".join(printed)


@pytest.mark.slow
def test_ctrl_c_in_every_stage(checkout, finished):
    for number, message in enumerate(MESSAGES.values()):
        # From right after the start to the middle of the work.
        interrupt(checkout, message, seconds=[0.2, 5.0, 2.0][number % 3])
        assert not list((checkout.folder / "results").rglob("*.partial*"))
    checkout.snakemake()
    expected, found = finished.outputs(), checkout.outputs()
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
