import math

import pytest
import torch

from mmpref.logprobs.views import CHOSEN, REJECTED, LogProbs, View
from mmpref.objectives import DPO, MDPO

DEGRADED = View("chosen", "crop_0_20")
POLICY = {
    CHOSEN: [-10.0, -7.0],
    REJECTED: [-12.0, -6.0],
    DEGRADED: [-11.0, -9.0],
}
REFERENCE = {
    CHOSEN: [-11.0, -6.5],
    REJECTED: [-11.5, -8.0],
    DEGRADED: [-10.5, -9.5],
}
# With beta 0.5 the rewards are: chosen 0.5, -0.25; rejected -0.25, 1.0; degraded -0.25, 0.25.


def tensors(table, **options):
    return {
        view: LogProbs(torch.tensor(values, **options), torch.tensor([3, 4]))
        for view, values in table.items()
    }


def softplus(x):
    return math.log1p(math.exp(x))


SWITCHES = [
    (DPO(beta=0.5), [softplus(-0.75), softplus(1.25)]),
    (
        MDPO(beta=0.5),
        [
            softplus(-0.75) + softplus(-0.75) + softplus(-0.5),
            softplus(1.25) + softplus(0.5) + softplus(0.25),
        ],
    ),
    (
        MDPO(beta=0.5, conditional=False),
        [softplus(-0.75) + softplus(-0.5), softplus(1.25) + softplus(0.25)],
    ),
    (
        MDPO(beta=0.5, anchor=False),
        [softplus(-0.75) + softplus(-0.75), softplus(1.25) + softplus(0.5)],
    ),
    (
        MDPO(beta=0.5, conditional=False, anchor_value=0.3),
        [softplus(-0.75) + softplus(-0.2), softplus(1.25) + softplus(0.55)],
    ),
    (
        MDPO(
            beta=0.5,
            conditional=False,
            anchor=False,
            anchor_rejected=True,
            anchor_degraded_image=True,
            anchor_value=0.1,
        ),
        [
            softplus(-0.75) + softplus(-0.35) + softplus(-0.35),
            softplus(1.25) + softplus(0.9) + softplus(0.15),
        ],
    ),
]


@pytest.mark.parametrize(("objective", "expected"), SWITCHES)
def test_losses_by_hand(objective, expected):
    outcome = objective(tensors(POLICY), tensors(REFERENCE))
    assert outcome.losses.tolist() == pytest.approx(expected, rel=1e-6)


def test_rewards_by_hand():
    rewards = MDPO(beta=0.5)(tensors(POLICY), tensors(REFERENCE)).rewards
    assert rewards[CHOSEN].tolist() == pytest.approx([0.5, -0.25])
    assert rewards[REJECTED].tolist() == pytest.approx([-0.25, 1.0])
    assert rewards[DEGRADED].tolist() == pytest.approx([-0.25, 0.25])


@pytest.mark.parametrize(("objective", "expected"), SWITCHES)
def test_gradients_equal_finite_differences(objective, expected):
    reference = tensors(REFERENCE, dtype=torch.float64)
    inputs = tensors(POLICY, dtype=torch.float64, requires_grad=True)
    used = [inputs[view].sum for view in objective.views]

    def loss(*values):
        policy = {
            view: LogProbs(value, inputs[view].tokens)
            for view, value in zip(objective.views, values, strict=True)
        }
        return objective(policy, reference).losses

    assert torch.autograd.gradcheck(loss, used)


def test_an_objective_asks_only_for_the_views_it_uses():
    assert MDPO(conditional=False).views == DPO().views == (CHOSEN, REJECTED)
    assert DEGRADED in MDPO(conditional=False, anchor_degraded_image=True).views


def test_without_both_terms_mdpo_is_dpo():
    plain = MDPO(beta=0.2, conditional=False, anchor=False)
    found = plain(tensors(POLICY), tensors(REFERENCE)).losses
    torch.testing.assert_close(found, DPO(beta=0.2)(tensors(POLICY), tensors(REFERENCE)).losses)


@pytest.mark.parametrize("objective", [DPO(), MDPO()])
def test_large_margins_stay_finite(objective):
    policy = tensors({view: [-1e4, 1e4] for view in POLICY})
    reference = tensors({**{view: [0.0, 0.0] for view in POLICY}, REJECTED: [1e4, -1e4]})
    outcome = objective.model_copy(update={"beta": 1.0})(policy, reference)
    assert torch.isfinite(outcome.losses).all()
