"""Checkpoints: one safetensors file each, complete or absent, for any number of processes.

DeepSpeed's own checkpoints are pickles, many files, and tied to the number of processes and the
ZeRO stage. What is needed to go on is little with an adapter: the trained parameters in float32
and AdamW's two moments. They are put together from the partitions, and taken apart again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mmpref.errors import InputError
from mmpref.files import remove, replacing
from mmpref.fingerprint import differences

MOMENTS = ("exp_avg", "exp_avg_sq")
KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` optimiser steps: `weights` by name, `moments` by moment and name."""

    step: int
    weights: dict[str, Tensor]
    moments: dict[str, dict[str, Tensor]]


def gather(
    engine: Any, parameters: Mapping[str, nn.Parameter], step: int, keep: bool
) -> Checkpoint:
    """Put the partitions of a DeepSpeed engine together; all processes have to call it.

    Returns them in float32 on the CPU where `keep` is true, and empty elsewhere.
    """
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    if engine.zero_optimization():
        _link_moments(engine)
        weight_of, moment_of = safe_get_full_fp32_param, safe_get_full_optimizer_state
    else:
        # Stage 0 partitions nothing.
        def weight_of(parameter: nn.Parameter) -> Tensor:
            return parameter.detach()

        def moment_of(parameter: nn.Parameter, moment: str) -> Tensor:
            return engine.optimizer.state[parameter][moment]

    weights: dict[str, Tensor] = {}
    moments: dict[str, dict[str, Tensor]] = {moment: {} for moment in MOMENTS}
    for name, parameter in parameters.items():
        weight = weight_of(parameter)
        if keep:
            weights[name] = weight.cpu().clone()
        for moment in MOMENTS:
            value = moment_of(parameter, moment)
            if keep:
                moments[moment][name] = value.cpu().clone()
    return Checkpoint(step, weights, moments)


def restore(engine: Any, parameters: Mapping[str, nn.Parameter], checkpoint: Checkpoint) -> None:
    """Continue from a checkpoint: the opposite of `gather`, before the engine's first step."""
    import deepspeed
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    optimizer = engine.optimizer
    step = torch.tensor(float(checkpoint.step))
    if not engine.zero_optimization():
        for name, parameter in parameters.items():
            with torch.no_grad():
                parameter.copy_(checkpoint.weights[name])
            optimizer.state[parameter] = {
                "step": step.clone(),
                **{moment: checkpoint.moments[moment][name].to(parameter) for moment in MOMENTS},
            }
        return
    for partition in (
        optimizer.fp32_partitioned_groups_flat
        if engine.zero_optimization_partition_weights()
        else optimizer.single_partition_of_fp32_groups
    ):
        # AdamW makes its state at its first step, which is too late to fill it.
        optimizer.optimizer.state[partition] = {
            "step": step.clone(),
            **{moment: torch.zeros_like(partition) for moment in MOMENTS},
        }
    _link_moments(engine)
    for name, parameter in parameters.items():
        weight = checkpoint.weights[name].to(engine.device)
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0), torch.no_grad():
            parameter.copy_(weight)
        safe_set_full_fp32_param(parameter, weight)
        for moment in MOMENTS:
            value = checkpoint.moments[moment][name].to(engine.device)
            safe_set_full_optimizer_state(parameter, value, moment)


def _link_moments(engine: Any) -> None:
    """Let the parameters of stages 1 and 2 know where their moments are.

    DeepSpeed 0.19.8 does so after the step of the first parameter group, when the moments of the
    other groups are not there yet.
    """
    if not engine.zero_optimization_partition_weights():
        engine.optimizer._hp_optimizer_states_linked = False
        engine.optimizer._lazy_init_hp_params_optimizer_state()


class Checkpoints:
    """The checkpoints of one run in a folder. `settings` say what the run's result depends on."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = settings

    def clean(self) -> None:
        """Remove what a killed process left half-written."""
        for leftover in self.folder.glob(".*.partial*"):
            remove(leftover)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove all but the last two.

        Two, because a damaged one may have to be removed by hand.
        """
        tensors = {f"weight/{name}": tensor for name, tensor in checkpoint.weights.items()}
        for moment, values in checkpoint.moments.items():
            tensors |= {f"{moment}/{name}": tensor for name, tensor in values.items()}
        facts = {"step": checkpoint.step, "settings": self.settings}
        with replacing(self.folder / f"checkpoint-{checkpoint.step:08d}.safetensors") as temporary:
            save_file(tensors, temporary, {"mmpref": json.dumps(facts)})
        for old in self._files()[:-KEPT]:
            remove(old)

    def latest(self) -> Checkpoint | None:
        """Return the last checkpoint, or None where there is none.

        Raises:
            InputError: it is damaged, or it belongs to a run with other settings.
        """
        files = self._files()
        if not files:
            return None
        try:
            with safe_open(files[-1], framework="pt") as file:
                facts = json.loads(file.metadata()["mmpref"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{files[-1]}: is damaged ({error}); remove it") from error
        differing = differences(facts["settings"], self.settings)
        if differing:
            raise InputError(
                f"{files[-1]}: is of a run with other settings ({'; '.join(differing)}); "
                f"remove {self.folder} to train from the start"
            )
        parts: dict[str, dict[str, Tensor]] = {"weight": {}, **{moment: {} for moment in MOMENTS}}
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            parts[kind][name] = tensor
        return Checkpoint(facts["step"], parts.pop("weight"), parts)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint-*.safetensors"))
