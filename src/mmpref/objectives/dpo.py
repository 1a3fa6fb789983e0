"""Direct preference optimisation."""

from typing import Literal

from pydantic import Field

from mmpref.logprobs.views import CHOSEN, REJECTED, View
from mmpref.objectives.objective import ByView, Objective, Outcome, detached, rewards_of
from mmpref.study.parts import Positive


class DPO(Objective):
    """Direct preference optimisation: -log sigmoid(r_chosen - r_rejected).

    r = beta * log(pi / pi_ref). Source: Rafailov et al. 2023, Equation 7; with images, L_DPOm of
    mDPO (Wang et al. 2024). Without the image it learns from the texts alone, as in Figure 1 there.
    """

    name: Literal["dpo"] = "dpo"
    beta: Positive = 0.1
    image: Literal["original", "none"] = Field(
        "original", description="what the answers are about: the image, or none (the texts alone)"
    )

    @property
    def views(self) -> tuple[View, ...]:
        """The two answers under the image, or without one."""
        return tuple(View(view.answer, self.image) for view in (CHOSEN, REJECTED))

    def __call__(self, policy: ByView, reference: ByView) -> Outcome:
        """Return losses and rewards of a batch."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = rewards_of(self.beta, self.views, policy, reference).values()
        rewards = {CHOSEN: chosen, REJECTED: rejected}
        return Outcome(-logsigmoid(chosen - rejected), detached(rewards))
