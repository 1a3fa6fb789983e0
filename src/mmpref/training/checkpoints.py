"""Checkpoints: one safetensors file each, complete or absent, for any number of processes.

DeepSpeed's own checkpoints are pickles, many files, and tied to the number of processes and the
ZeRO stage. What is needed to go on is little with an adapter: the trained parameters in float32
and AdamW's two moments.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmpref.errors import InputError
from mmpref.files import remove, replacing
from mmpref.fingerprint import differences

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` optimiser steps: `weights` by name, `moments` by moment and name."""

    step: int
    weights: dict[str, Tensor]
    moments: dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run in a folder. `settings` say what the run's result depends on."""

    folder: Path
    settings: Mapping[str, Any]

    def clean(self) -> None:
        """Remove what a killed process left half-written."""
        for leftover in self.folder.glob(".*.partial*"):
            remove(leftover)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove all but the last two: one may turn out damaged."""
        parts = {"weight": checkpoint.weights, **checkpoint.moments}
        tensors = {
            f"{kind}/{name}": tensor
            for kind, part in parts.items()
            for name, tensor in part.items()
        }
        facts = {"step": checkpoint.step, "settings": self.settings}
        with replacing(self.folder / f"checkpoint-{checkpoint.step:08d}.safetensors") as temporary:
            save_file(tensors, temporary, {"mmpref": json.dumps(facts)})
        for old in self._files()[:-2]:
            remove(old)

    def latest(self) -> Checkpoint | None:
        """Return the last checkpoint, or None where there is none.

        Raises:
            InputError: it is damaged, or it belongs to a run with other settings.
        """
        if not (files := self._files()):
            return None
        try:
            with safe_open(files[-1], framework="pt") as file:
                facts = json.loads(file.metadata()["mmpref"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{files[-1]}: is damaged ({error}); remove it") from error
        if differing := differences(facts["settings"], self.settings):
            raise InputError(
                f"{files[-1]}: is of a run with other settings ({'; '.join(differing)}); "
                f"remove {self.folder} to train from the start"
            )
        parts: dict[str, dict[str, Tensor]] = {kind: {} for kind in ("weight", *MOMENTS)}
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            parts[kind][name] = tensor
        return Checkpoint(facts["step"], parts.pop("weight"), parts)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint-*.safetensors"))
