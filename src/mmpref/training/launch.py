"""Start the processes of a training: `python -m mmpref.training.launch [...] -- SCRIPT ARGUMENTS`.

One process: the script itself. Several on one machine: torchrun. Several machines: srun, inside a
SLURM allocation, with torchrun on each.
"""

import argparse
import ctypes
import logging
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence

from mmpref import cli
from mmpref.errors import InputError

LAUNCHER = "MMPREF_LAUNCHER"
"""Variable with the process id of the launcher, for its children."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Start `--nodes` times `--processes` processes and end as they end.

    Raises:
        InputError: there are fewer GPUs or cores than processes, or no SLURM for several machines.
    """
    parser = argparse.ArgumentParser(prog="mmpref.training.launch", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1, help="machines")
    parser.add_argument("--processes", type=int, default=1, help="processes per machine")
    # What srun's tasks are started with:
    parser.add_argument("--node-rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--head", help=argparse.SUPPRESS)
    parser.add_argument("script", nargs="+", metavar="-- SCRIPT ARGUMENTS")
    options = parser.parse_args(arguments)
    nodes, processes, script = options.nodes, options.processes, options.script
    if nodes > 1 and options.head is None:
        os.execvp("srun", _srun_command(nodes, processes, script))
    cores = _cores()
    if processes > 1:
        _check_room(processes, cores)
    # Snakemake says here how many threads a job has, for all its processes. More of them than
    # cores wait for each other actively, and a training becomes a hundred times slower.
    threads = min(int(os.environ.get("OMP_NUM_THREADS", cores)), cores)
    os.environ["OMP_NUM_THREADS"] = str(max(1, threads // processes))
    if nodes == processes == 1:
        os.execv(sys.executable, [sys.executable, *script])
    job = int(os.environ.get("SLURM_JOB_ID", "0"))
    _torchrun(torchrun_arguments(nodes, processes, script, options.node_rank, options.head, job))


def _srun_command(nodes: int, processes: int, script: Sequence[str]) -> list[str]:
    """Return the command that starts this launcher once on each machine of a SLURM allocation."""
    if "SLURM_JOB_ID" not in os.environ or not shutil.which("srun"):
        raise InputError(
            f"training.nodes is {nodes}, but this is not a SLURM job; "
            "use `snakemake --profile slurm`, or nodes: 1"
        )
    again = [sys.executable, "-m", "mmpref.training.launch"]
    again += ["--nodes", str(nodes), "--processes", str(processes)]
    payload = (
        # Only inside the step is it known which machines it has.
        'head=$(scontrol show hostnames "$SLURM_STEP_NODELIST" | head -n1)\n'
        f'exec {shlex.join(again)} --node-rank "$SLURM_NODEID" --head "$head" '
        f"-- {shlex.join(script)}"
    )
    command = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
    if cpus := os.environ.get("SLURM_CPUS_PER_TASK"):
        # srun does not take it from the job.
        command.append(f"--cpus-per-task={cpus}")
    return [*command, "--kill-on-bad-exit=1", "bash", "-euc", payload]


def torchrun_arguments(
    nodes: int,
    processes: int,
    script: Sequence[str],
    node_rank: int | None,
    head: str | None,
    job: int,
) -> list[str]:
    """Return torchrun's arguments on one machine; `job` keeps the ports of jobs apart."""
    place = ["--standalone"]
    if nodes > 1:
        # Static: ranks follow the machines' order, which c10d would shuffle.
        place = [f"--nnodes={nodes}", f"--node-rank={node_rank}", f"--master-addr={head}"]
        place.append(f"--master-port={20000 + job % 20000}")
    return [f"--nproc-per-node={processes}", *place, "--", *script]


def _torchrun(arguments: list[str]) -> None:
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # The failed process has said what is wrong; torchrun would add a page to it.
    for name in ("elastic", "run"):
        logging.getLogger(f"torch.distributed.{name}").setLevel(logging.CRITICAL)
    os.environ[LAUNCHER] = str(os.getpid())
    try:
        run.run(run.parse_args(arguments))
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        sys.exit(128 - code if code < 0 else code)
    except SignalException as error:
        sys.exit(128 + error.sigval)


def die_with_launcher() -> None:
    """Let this process be killed when its launcher is, however that ends (Linux only).

    torchrun's children are in sessions of their own. Left behind, they would go on training, and
    be in the way of the next start.
    """
    launcher = os.environ.get(LAUNCHER)
    if launcher is None or not sys.platform.startswith("linux"):
        return
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != int(launcher):
        sys.exit("the launcher has ended")


def _check_room(processes: int, cores: int) -> None:
    import torch

    gpus = torch.cuda.device_count()
    room, what = (gpus, "GPU") if gpus else (cores, "core")
    if processes > room:
        raise InputError(
            f"training.processes is {processes}, but only {room} {what}{'s' * (room != 1)} can be "
            "used on this machine; lower it"
        )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if __name__ == "__main__":
    cli.ending(main)
