"""Direct preference optimisation."""

from typing import Literal

from mmpref.logprobs.views import CHOSEN, REJECTED, View
from mmpref.objectives.objective import ByView, Objective, Outcome, detached, rewards_of
from mmpref.study.parts import Positive


class DPO(Objective):
    """Direct preference optimisation: -log sigmoid(r_chosen - r_rejected).

    r = beta * log(pi / pi_ref). Source: Rafailov et al. 2023, Equation 7; with images, L_DPOm of
    mDPO (Wang et al. 2024).
    """

    name: Literal["dpo"] = "dpo"
    beta: Positive = 0.1

    @property
    def views(self) -> tuple[View, ...]:
        """The two answers under the image."""
        return (CHOSEN, REJECTED)

    def __call__(self, policy: ByView, reference: ByView) -> Outcome:
        """Return losses and rewards of a batch."""
        from torch.nn.functional import logsigmoid

        rewards = rewards_of(self.beta, self.views, policy, reference)
        return Outcome(-logsigmoid(rewards[CHOSEN] - rewards[REJECTED]), detached(rewards))
