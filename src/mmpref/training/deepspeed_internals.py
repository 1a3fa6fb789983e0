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
    lacking = missing(engine)
    if lacking:
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


def gradient_norm(engine: Any) -> float:
    """Return the norm of the last step's gradient before clipping; -1 where it is not finite."""
    return float(engine.get_global_grad_norm())


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
