import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from mmpref.errors import InputError
from mmpref.training import launch

TWO_CORES = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="two processes want two cores"
)

REPORT = """
import json, os, sys
from pathlib import Path
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")
facts = {name: os.environ.get(name) for name in names} | {"arguments": sys.argv[2:]}
Path(sys.argv[1], os.environ.get("RANK", "alone")).write_text(json.dumps(facts))
"""
SLEEP = """
import os, sys, time
from pathlib import Path
from mmpref import cli
from mmpref.training.launch import die_with_launcher
def main():
    die_with_launcher()
    Path(sys.argv[1], os.environ["RANK"]).write_text(str(os.getpid()))
    time.sleep(60)
cli.ending(main)
"""
FAIL = """
import os, time
from mmpref import cli
from mmpref.errors import InputError
def main():
    raise InputError("pairs.parquet: is missing; make it")
cli.ending(main)
"""


FULL = """
from mmpref import cli
def main():
    with open("/dev/full", "w") as file:
        file.write("text")
cli.ending(main)
"""


@pytest.fixture
def script(tmp_path):
    def write(text):
        file = tmp_path / "script.py"
        file.write_text(text)
        return str(file)

    return write


def launcher(*arguments):
    return [sys.executable, "-m", "mmpref.training.launch", *map(str, arguments)]


def without(*names, **more):
    """The environment of a user: no variable of a launcher, nor of the tests'."""
    return {key: value for key, value in os.environ.items() if key not in names} | more


def test_one_process_is_the_script_itself(tmp_path, script):
    command = launcher("--", script(REPORT), tmp_path, "--run", "a b")
    subprocess.run(command, check=True, env=without("RANK", "OMP_NUM_THREADS"))
    facts = json.loads((tmp_path / "alone").read_text())
    assert facts["arguments"] == ["--run", "a b"]
    assert facts["OMP_NUM_THREADS"] == str(len(os.sched_getaffinity(0)))


@TWO_CORES
@pytest.mark.parametrize(
    ("processes", "given", "each"), [(1, "1", "1"), (1, "2", "2"), (2, "1", "1"), (2, "2", "1")]
)
def test_processes_share_the_threads_of_the_job(tmp_path, script, processes, given, each):
    command = launcher("--processes", processes, "--", script(REPORT), tmp_path)
    subprocess.run(command, check=True, env=without("RANK", OMP_NUM_THREADS=given))
    file = tmp_path / ("alone" if processes == 1 else "1")
    assert json.loads(file.read_text())["OMP_NUM_THREADS"] == each


def test_more_threads_than_cores_are_not_used(tmp_path, script):
    command = launcher("--", script(REPORT), tmp_path)
    subprocess.run(command, check=True, env=without("RANK", OMP_NUM_THREADS="4096"))
    found = json.loads((tmp_path / "alone").read_text())["OMP_NUM_THREADS"]
    assert found == str(len(os.sched_getaffinity(0)))


@TWO_CORES
def test_two_processes_share_machine_and_cores(tmp_path, script):
    command = launcher("--processes", 2, "--", script(REPORT), tmp_path, "--run", "a b")
    subprocess.run(command, check=True, env=without("RANK", "OMP_NUM_THREADS"))
    facts = [json.loads((tmp_path / rank).read_text()) for rank in "01"]
    assert [one["RANK"] for one in facts] == [one["LOCAL_RANK"] for one in facts] == ["0", "1"]
    assert {one["WORLD_SIZE"] for one in facts} == {"2"}
    assert {one["OMP_NUM_THREADS"] for one in facts} == {str(len(os.sched_getaffinity(0)) // 2)}
    assert all(one["arguments"] == ["--run", "a b"] for one in facts)


def test_more_processes_than_cores_are_refused(monkeypatch):
    monkeypatch.setattr(launch, "_cores", lambda: 2)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(InputError, match=r"processes is 3, .* 2 cores can"):
        launch.main(["--processes", "3", "--", "script.py"])


@pytest.mark.parametrize(("gpus", "words"), [(4, "4 GPUs"), (1, "1 GPU")])
def test_more_processes_than_gpus_are_refused(monkeypatch, gpus, words):
    monkeypatch.setattr(launch, "_cores", lambda: 64)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    with pytest.raises(InputError, match=rf"processes is 8, .* {words} can be used"):
        launch.main(["--processes", "8", "--", "script.py"])


def test_several_machines_need_slurm(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(InputError, match="not a SLURM job"):
        launch.main(["--nodes", "2", "--", "script.py"])


# What SLURM does, on this machine: starts the payload once per node, and knows the nodes' names.
SRUN = """#!/usr/bin/env python3
import os, subprocess, sys
options = [word for word in sys.argv[1:] if word.startswith("--")]
payload = sys.argv[1 + len(options):]
assert "--ntasks-per-node=1" in options and "--kill-on-bad-exit=1" in options, options
assert "--cpus-per-task=3" in options, options
nodes = next(int(word.split("=")[1]) for word in options if word.startswith("--nodes="))
tasks = [
    subprocess.Popen(payload, env={**os.environ, "SLURM_NODEID": str(node),
                                   "SLURM_STEP_NODELIST": "somewhere[1-2]"})
    for node in range(nodes)
]
sys.exit(max(task.wait() for task in tasks))
"""
SCONTROL = """#!/bin/sh
test "$*" = "show hostnames somewhere[1-2]" && echo localhost && echo elsewhere
"""


def test_two_machines(tmp_path, script):
    for name, text in [("srun", SRUN), ("scontrol", SCONTROL)]:
        file = tmp_path / name
        file.write_text(text)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    environment = without(
        "RANK",
        "OMP_NUM_THREADS",
        PATH=f"{tmp_path}:{os.environ['PATH']}",
        SLURM_JOB_ID="21234",
        SLURM_CPUS_PER_TASK="3",
    )
    command = launcher("--nodes", 2, "--", script(REPORT), tmp_path, "--run", 'a "b" $c')
    subprocess.run(command, check=True, env=environment)
    facts = [json.loads((tmp_path / rank).read_text()) for rank in "01"]
    assert {one["WORLD_SIZE"] for one in facts} == {"2"}
    assert {one["LOCAL_RANK"] for one in facts} == {"0"}
    assert {one["MASTER_ADDR"] for one in facts} == {"localhost"}
    assert {one["MASTER_PORT"] for one in facts} == {"21234"}
    assert all(one["arguments"] == ["--run", 'a "b" $c'] for one in facts)


def test_ports_of_jobs_are_apart_and_valid():
    def port(job):
        return launch.torchrun_arguments(2, 1, ["x"], 0, "h", job)[4]

    assert port(12) == "--master-port=20012"
    assert port(1234567) == "--master-port=34567"


def test_a_mistake_is_one_message(script):
    done = subprocess.run(
        launcher("--", script(FAIL)), capture_output=True, text=True, env=without("RANK")
    )
    assert done.returncode == 1
    assert done.stderr == "error: pairs.parquet: is missing; make it\n"


@TWO_CORES
@pytest.mark.parametrize("ranks", ["01", "1"])
def test_a_mistake_of_two_processes_is_one_message(script, ranks):
    text = FAIL.replace("raise", f"if os.environ['RANK'] in '{ranks}': raise")
    command = launcher("--processes", 2, "--", script(text + "time.sleep(30)"))
    done = subprocess.run(command, capture_output=True, text=True, env=without("RANK"))
    assert done.returncode == 1
    assert done.stderr == "error: pairs.parquet: is missing; make it\n"


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@TWO_CORES
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGINT, 128 + signal.SIGINT),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_no_process_outlives_the_launcher(tmp_path, script, sent, code):
    command = launcher("--processes", 2, "--", script(SLEEP), tmp_path)
    running = subprocess.Popen(
        command,
        env=without("RANK"),
        stderr=subprocess.PIPE,
        text=True,
        # In the background of a script SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    files = [tmp_path / "0", tmp_path / "1"]
    deadline = time.monotonic() + 60
    while not all(file.exists() and file.read_text() for file in files):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = [int(file.read_text()) for file in files]
    assert all(map(alive, children))
    running.send_signal(sent)
    assert running.wait(timeout=20) == code
    while any(map(alive, children)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "Traceback" not in running.stderr.read()


def test_a_full_disk_ends_in_one_message(script):
    done = subprocess.run([sys.executable, script(FULL)], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the disk is full ([Errno 28] No space left on device)")
    assert len(done.stderr.splitlines()) == 1
