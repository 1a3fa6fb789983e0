import math
import re

import pytest
import torch
from pydantic import ValidationError

from mmpref.logprobs.views import CHOSEN, REJECTED, LogProbs, View
from mmpref.objectives import DPO, MDPO
from mmpref.study.reference import Stored, stored_for
from mmpref.study.runs import Run

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


def test_dpo_without_the_image_is_dpo_of_the_texts_alone():
    blind = DPO(beta=0.5, image="none")
    assert {view.image for view in blind.views} == {"none"}
    policy, reference = (
        tensors({View(view.answer, "none"): table[view] for view in (CHOSEN, REJECTED)})
        for table in (POLICY, REFERENCE)
    )
    found, seeing = blind(policy, reference), DPO(beta=0.5)(tensors(POLICY), tensors(REFERENCE))
    torch.testing.assert_close(found.losses, seeing.losses)
    assert list(found.rewards) == [CHOSEN, REJECTED]


@pytest.mark.parametrize("objective", [DPO(), MDPO()])
def test_large_margins_stay_finite(objective):
    policy = tensors({view: [-1e4, 1e4] for view in POLICY})
    reference = tensors({**{view: [0.0, 0.0] for view in POLICY}, REJECTED: [1e4, -1e4]})
    outcome = objective.model_copy(update={"beta": 1.0})(policy, reference)
    assert torch.isfinite(outcome.losses).all()


# --- what a run needs of the stages before its training ---


def run_of(objective, **changes):
    training = changes.pop("training", {})
    parts = {"model": "m", "preferences": "p", "objective": objective, "training": training}
    return Run.model_validate({**parts, **changes})


def test_a_reference_file_holds_what_some_run_needs(monkeypatch):
    monkeypatch.setattr(MDPO, "by_token", True)
    runs = [
        run_of({"name": "dpo"}),
        run_of({"name": "mdpo"}, training={"epochs": 2}),
        run_of({"name": "mdpo", "conditional": False}, preferences="other"),
        run_of({"name": "mdpo", "degraded_image": "black"}),
        Run(model="m"),
    ]
    assert stored_for(runs, "m", "p", "original", 5) == Stored(
        image="original", answers=("chosen", "rejected"), by_token=True
    )
    assert stored_for(runs[:1], "m", "p", "original", 5).by_token is False
    crops = stored_for(runs, "m", "p", "crop_0_20", 5)
    assert crops == Stored(image="crop_0_20", answers=("chosen",), by_token=True, epochs=2, seed=5)
    assert stored_for(runs, "m", "p", "black", 5).epochs == 3
    assert stored_for(runs, "m", "other", "crop_0_20", 5) is None
    assert stored_for(runs, "n", "p", "original", 5) is None


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (View("chosen", "rotated"), "the image 'rotated', which no stage makes; valid are: orig"),
        (View("best"), "the answer 'best', which pairs do not have; valid are: chosen"),
        (View("rejected_1"), "the answer 'rejected_1'"),
    ],
)
def test_a_view_that_no_stage_makes_is_refused(monkeypatch, view, message):
    monkeypatch.setattr(DPO, "views", property(lambda self: (CHOSEN, REJECTED, view)))
    with pytest.raises(ValidationError, match=re.escape(message)):
        run_of({"name": "dpo"})


def test_further_rejected_answers_may_be_asked_for(monkeypatch):
    more = (CHOSEN, REJECTED, View("rejected_2"), View("rejected_10"))
    monkeypatch.setattr(DPO, "views", property(lambda self: more))
    stored = stored_for([run_of({"name": "dpo"})], "m", "p", "original", 0)
    assert stored.answers == ("chosen", "rejected", "rejected_10", "rejected_2")
