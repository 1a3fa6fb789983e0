"""What a run reports of every optimiser step: JSON lines, TensorBoard, a line of progress."""

import json
import resource
import sys
import time
from pathlib import Path

import torch

from mmpref.files import remove
from mmpref.progress import SECONDS_BETWEEN_LINES, say


class MetricsLog:
    """The metrics of a run, in a file with every step once, also after a restart."""

    def __init__(self, file: Path, tensorboard: Path, done: int, steps: int) -> None:
        """Continue after `done` of `steps` steps; what was written of later ones is dropped."""
        from torch.utils.tensorboard import SummaryWriter

        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        # Of a killed process the last line may be torn, but never a line before `done`.
        file.write_text("".join(f"{line}\n" for line in lines[:done]), encoding="utf-8")
        if not done:
            remove(tensorboard)
        self.file = file.open("a", encoding="utf-8", buffering=1)
        self.board = SummaryWriter(str(tensorboard), purge_step=done + 1, flush_secs=30)
        self.done, self.steps = done, steps
        self.start = self.said = time.monotonic()

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Write the metrics of a step (from 1)."""
        self.file.write(json.dumps({"step": step, **metrics}) + "\n")
        for name, value in metrics.items():
            self.board.add_scalar(name, value, step)
        now = time.monotonic()
        if now - self.said >= SECONDS_BETWEEN_LINES or step == self.steps:
            left = (now - self.start) / (step - self.done) * (self.steps - step)
            loss = metrics["loss"]
            say(f"train: step {step}/{self.steps}, loss {loss:.4f}, about {left:.0f} s left")
            self.said = now

    def close(self) -> None:
        """Finish both files."""
        self.file.close()
        self.board.close()


def peak_memory_mb() -> float:
    """Return the most memory this process has held so far, on the GPU where it has one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
