"""Everything that touches DeepSpeed's private parts, as they are in 0.19.8.

The loop uses the engine as DeepSpeed documents it: forward, backward, step. What it does not
document is here: starting without a compiler, loading a model that is split at once, clipping at
stage 0, and the state of the optimiser. `start` checks that the names relied on are still there.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmpref.training.checkpoints import MOMENTS, Checkpoint

ENGINE = ("clip_fp32_gradients", "_global_grad_norm", "zero_optimization_partition_weights")
OPTIMIZER = {
    1: (
        "optimizer",
        "single_partition_of_fp32_groups",
        "_hp_optimizer_states_linked",
        "_lazy_init_hp_params_optimizer_state",
    ),
    3: ("optimizer", "fp32_partitioned_groups_flat"),
}
"""What is relied on, by the first ZeRO stage that has it."""


def join(device: torch.device) -> None:
    """Join the other processes; before anything else of DeepSpeed is used."""
    import deepspeed
    import deepspeed.ops

    if device.type == "cpu":
        # Otherwise DeepSpeed compiles a collective through shared memory at its first start,
        # a minute for what gloo does as well.
        deepspeed.ops.__compatible_ops__ = {}
    deepspeed.logger.setLevel("ERROR")
    deepspeed.init_distributed()


@contextmanager
def loading(config: dict[str, Any]) -> Iterator[None]:
    """Under ZeRO-3, let transformers split a model over the processes while it is loaded."""
    from transformers.integrations import deepspeed as integration

    # transformers holds a weak reference: the object has to live as long as models are made.
    known = integration.HfDeepSpeedConfig(config)
    try:
        yield
    finally:
        integration.unset_hf_deepspeed_config()
        del known


def start(module: nn.Module, optimizer: torch.optim.Optimizer, config: dict[str, Any]) -> Any:
    """Return DeepSpeed's engine around a module and its optimiser.

    Raises:
        RuntimeError: this version of DeepSpeed lacks something that is relied on.
    """
    import deepspeed

    engine, *_ = deepspeed.initialize(
        model=module,
        optimizer=optimizer,
        config={**config, "zero_allow_untested_optimizer": True},
    )
    if lacking := missing(engine):
        raise RuntimeError(
            f"DeepSpeed {deepspeed.__version__} lacks {', '.join(lacking)}; "
            f"adapt {__name__} or install 0.19.8"
        )
    if not engine.zero_optimization():
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        engine.clip_fp32_gradients = lambda: _clip(engine, parameters)
    return engine


def missing(engine: Any) -> list[str]:
    """Return what an engine and its optimiser lack of `ENGINE` and `OPTIMIZER`."""
    wanted = [("engine", engine, name) for name in ENGINE]
    if engine.zero_optimization():
        stage = 3 if engine.zero_optimization_partition_weights() else 1
        wanted += [("optimizer", engine.optimizer, name) for name in OPTIMIZER[stage]]
    return [f"{whose}.{name}" for whose, owner, name in wanted if not hasattr(owner, name)]


def is_matrix(parameter: nn.Parameter) -> bool:
    """Return whether a parameter has two dimensions or more; ZeRO-3 leaves the parameter empty."""
    return len(getattr(parameter, "ds_shape", parameter.shape)) > 1


def gather(
    engine: Any, parameters: Mapping[str, nn.Parameter], step: int, keep: bool
) -> Checkpoint:
    """Put the partitions of an engine's state together; all processes have to call it.

    Returns them in float32 on the CPU where `keep` is true, and empty elsewhere.
    """
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    partitioned = engine.zero_optimization()
    if partitioned:
        _link_moments(engine)
    parts: dict[str, dict[str, Tensor]] = {kind: {} for kind in ("weight", *MOMENTS)}
    for name, parameter in parameters.items():
        for kind, part in parts.items():
            if kind == "weight":
                value = safe_get_full_fp32_param(parameter) if partitioned else parameter.detach()
            elif partitioned:
                value = safe_get_full_optimizer_state(parameter, kind)
            else:
                value = engine.optimizer.state[parameter][kind]
            if keep:
                part[name] = value.cpu().clone()
    return Checkpoint(step, parts.pop("weight"), parts)


def restore(engine: Any, parameters: Mapping[str, nn.Parameter], checkpoint: Checkpoint) -> None:
    """Continue from a checkpoint: the opposite of `gather`, before the engine's first step."""
    import deepspeed
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    partitioned = engine.zero_optimization()
    states = (engine.optimizer.optimizer if partitioned else engine.optimizer).state
    if not partitioned:
        owners = parameters.values()
    elif engine.zero_optimization_partition_weights():
        owners = engine.optimizer.fp32_partitioned_groups_flat
    else:
        owners = engine.optimizer.single_partition_of_fp32_groups
    for owner in owners:
        # AdamW makes its state at its first step, which is too late to fill it.
        states[owner] = {moment: torch.zeros_like(owner) for moment in MOMENTS}
        states[owner]["step"] = torch.tensor(float(checkpoint.step))
    if partitioned:
        _link_moments(engine)
    for name, parameter in parameters.items():
        weight = checkpoint.weights[name].to(engine.device)
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0), torch.no_grad():
            parameter.copy_(weight)
        if partitioned:
            safe_set_full_fp32_param(parameter, weight)
        for moment in MOMENTS:
            value = checkpoint.moments[moment][name].to(engine.device)
            if partitioned:
                safe_set_full_optimizer_state(parameter, value, moment)
            else:
                states[parameter][moment] = value


def _link_moments(engine: Any) -> None:
    """Let the parameters of stages 1 and 2 know where their moments are.

    DeepSpeed does so after the step of the first parameter group, when the moments of the other
    groups are not there yet.
    """
    if not engine.zero_optimization_partition_weights():
        engine.optimizer._hp_optimizer_states_linked = False
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def _clip(engine: Any, parameters: list[nn.Parameter]) -> None:
    """Clip the gradients of an engine of stage 0, which would not keep their norm."""
    norm = nn.utils.clip_grad_norm_(parameters, engine.gradient_clipping())
    engine._global_grad_norm = norm.item()
