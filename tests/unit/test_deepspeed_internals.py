"""What is relied on of DeepSpeed's private parts; a failure says which part an upgrade broke."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from mmpref.training import deepspeed_internals

SCRIPT = """
import json, sys
import torch
from mmpref.training import deepspeed_internals as internals
from mmpref.training.processes import Processes, leave

Processes.start()
report = {}
for stage in (0, 1, 2, 3):
    def engine_of(seed):
        torch.manual_seed(seed)
        module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
        parameters = dict(module.named_parameters())
        groups = [{"params": [one for name, one in parameters.items() if kind in name], "lr": 0.1}
                  for kind in ("weight", "bias")]
        config = {"train_batch_size": 1, "gradient_clipping": 0.5,
                  "zero_optimization": {"stage": stage}}
        return internals.start(module, torch.optim.AdamW(groups), config), parameters

    def step(engine):
        loss = engine(torch.ones(1, 4)).square().sum()
        engine.backward(loss)
        engine.step()
        return loss.item()

    found = report[stage] = {}
    engine, parameters = engine_of(0)
    found["missing names"] = internals.missing(engine)
    first = step(engine)
    found["gradient norm"] = float(engine.get_global_grad_norm())
    state = internals.gather(engine, parameters, 1, keep=True)
    found["dimensions"] = [internals.is_matrix(one) for one in parameters.values()]
    found["shapes"] = [list(one.shape) for one in state.weights.values()]
    found["moments"] = [float(one.abs().max()) > 0 for one in state.moments["exp_avg"].values()]
    # Clipped to 0.5: the first moment is a tenth of the gradient.
    squares = sum(one.square().sum() for one in state.moments["exp_avg"].values())
    found["norm of the clipped gradient"] = 10 * float(squares) ** 0.5
    other, others = engine_of(1)
    internals.restore(other, others, state)
    again = internals.gather(other, others, 1, keep=True)
    found["restored weights"] = all(
        torch.equal(again.weights[name], one) for name, one in state.weights.items())
    found["restored moments"] = all(
        torch.equal(again.moments[kind][name], one)
        for kind in state.moments for name, one in state.moments[kind].items())
    found["losses"] = [step(engine), step(engine)]
    found["losses after restoring"] = [step(other), step(other)]
print(json.dumps(report))
leave()
"""


@pytest.fixture(scope="module")
def report():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("stage", "0123")
def test_what_deepspeed_keeps_to_itself_is_as_before(report, stage):
    found = report[stage]
    assert found["missing names"] == []
    assert found["dimensions"] == [True, False, True, False]
    assert found["shapes"] == [[3, 4], [3], [2, 3], [2]]
    assert found["moments"] == [True] * 4
    assert found["gradient norm"] == pytest.approx(report["0"]["gradient norm"], rel=1e-5)
    assert found["gradient norm"] > 0.5
    assert found["norm of the clipped gradient"] == pytest.approx(0.5, rel=1e-4)
    assert found["restored weights"]
    assert found["restored moments"]
    assert found["losses after restoring"] == pytest.approx(found["losses"], rel=1e-6)
    assert found["losses"] == pytest.approx(report["0"]["losses"], rel=1e-5)


def test_what_an_upgrade_broke_is_named(monkeypatch):
    def engine(stage, optimizer):
        return SimpleNamespace(
            clip_fp32_gradients=None,
            zero_optimization=lambda: stage > 0,
            zero_optimization_partition_weights=lambda: stage == 3,
            optimizer=optimizer,
        )

    optimizer = SimpleNamespace(optimizer=None, single_partition_of_fp32_groups=[])
    assert deepspeed_internals.missing(engine(2, optimizer)) == [
        "engine._global_grad_norm",
        "optimizer._hp_optimizer_states_linked",
        "optimizer._lazy_init_hp_params_optimizer_state",
    ]
    broken, module = engine(3, optimizer), torch.nn.Linear(1, 1)
    monkeypatch.setattr("deepspeed.initialize", lambda **_: (broken, None, None, None))
    with pytest.raises(RuntimeError, match=r"optimizer\.fp32_partitioned_groups_flat; adapt"):
        deepspeed_internals.start(module, torch.optim.SGD(module.parameters()), {})
