"""Ctrl-C in every stage; the same command then ends with what an undisturbed run makes."""

import os
import signal
import subprocess
import time

import pytest

# What Snakemake says when it starts a stage's job, and how long after it Ctrl-C comes: from right
# after the start to the middle of the work.
STAGES = {
    "Pretraining the toy model": 4.0,
    "Drawing the toy world's pairs": 0.2,
    "Making rejected answers": 4.0,
    "Putting the shards": 0.2,
    "Reference log-probabilities of bdhs, image crop": 4.0,
    "Training mdpo": 6.0,
    "Answers of mdpo": 3.0,
    "Scoring mdpo": 0.2,
    "Tables": 0.5,
    "The report page": 0.5,
}


def run_until(checkout, messages):
    """Run Snakemake and press Ctrl-C in the first stage of `messages` that starts.

    Returns its message, or None when Snakemake came to its end first.
    """
    process = subprocess.Popen(
        checkout.command(),
        cwd=checkout.folder,
        env={**checkout.environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A group of its own, as a terminal's foreground job is.
        process_group=0,
        # In the background of a script, where these tests may run, SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    found = None
    printed = []
    for line in process.stdout:
        printed.append(line)
        found = next((message for message in messages if message in line), None)
        if found:
            time.sleep(STAGES[found])
            os.killpg(process.pid, signal.SIGINT)
            break
    printed.append(process.stdout.read())
    code = process.wait(timeout=120)
    assert (code == 0) == (found is None), "".join(printed)[-4000:]
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    return found


@pytest.mark.slow
def test_ctrl_c_in_every_stage(checkout, finished):
    ahead = dict.fromkeys(STAGES)
    while message := run_until(checkout, ahead):
        del ahead[message]
        assert not list((checkout.folder / "results").rglob("*.partial*"))
    # Quick stages may begin and end while another one is being interrupted.
    assert len(ahead) <= 2, ahead
    assert not [message for message in ahead if STAGES[message] > 1]
    expected, found = finished.outputs(), checkout.outputs()
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
