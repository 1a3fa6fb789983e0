"""The processes of a training: who am I, how many are we, and talking to each other."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed
from torch.distributed.elastic.utils.distributed import get_free_port

from mmpref.training.deepspeed_internals import join
from mmpref.training.launch import die_with_launcher

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes that train together, as one of them sees it; the first one has rank 0."""

    rank: int
    count: int
    on_this_machine: int
    device: torch.device

    @classmethod
    def start(cls) -> "Processes":
        """Join the processes that `mmpref.training.launch` started, or stand alone without it.

        Comes before anything else of DeepSpeed, under ZeRO-3 even before the model is loaded.
        """
        die_with_launcher()
        if "RANK" not in os.environ:
            alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
            os.environ.update(alone, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(get_free_port()))
        device = torch.device("cpu")
        if torch.cuda.is_available():
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        else:
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
            # Nothing is compiled here, and loading the compiler takes a second.
            os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
        # Of PyTorch about what DeepSpeed calls.
        warnings.filterwarnings("ignore", category=FutureWarning)
        join(device)
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return cls(distributed.get_rank(), distributed.get_world_size(), here, device)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.gather(None)

    def gather(self, mine: T) -> list[T]:
        """Return what every process gives, by rank."""
        everyones = [mine] * self.count
        distributed.all_gather_object(everyones, mine)
        return everyones

    def from_first(self, compute: Callable[[], T]) -> T:
        """Return what the first process computes; the others wait for it."""
        return self.gather(compute() if self.is_first else None)[0]  # type: ignore[return-value]


def leave() -> None:
    """Part from the other processes; the last thing a script does when all went well.

    Left to the end of Python, threads of the group may outlive what they work on, and now and then
    a process that had done its work ends with SIGABRT.
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()
