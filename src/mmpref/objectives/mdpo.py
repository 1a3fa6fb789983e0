"""Multimodal DPO: a preference over images, and an anchor, beside the one over answers."""

from typing import Literal

from pydantic import Field

from mmpref.logprobs.views import CHOSEN, REJECTED, View
from mmpref.objectives.objective import ByView, Objective, Outcome, detached, rewards_of
from mmpref.study.parts import DegradedImage, Positive


class MDPO(Objective):
    """Multimodal DPO with the switches of the paper's ablations: L_DPOm + L_CoPO + L_AncPO.

    Weights are 1 : 1 : 1 (Wang et al. 2024, section 3). The conditional term (CoPO) asks that the
    chosen answer be worth more under the original image than under the degraded one; the anchor
    (AncPO) asks that its reward stay above `anchor_value`. `anchor_rejected` and
    `anchor_degraded_image` are the ablation of Table 4: those rewards are pushed below it.
    """

    name: Literal["mdpo"] = "mdpo"
    beta: Positive = 0.1
    conditional: bool = Field(True, description="the preference of original over degraded image")
    anchor: bool = Field(True, description="keep the chosen answer's reward above the anchor value")
    anchor_value: float = Field(0.0, description="delta in the paper")
    anchor_rejected: bool = Field(False, description="push the rejected answer's reward below it")
    anchor_degraded_image: bool = Field(False, description="the same for the degraded image")
    degraded_image: DegradedImage = Field(
        "crop_0_20", description="how the image is degraded; `none`: left out"
    )

    @property
    def views(self) -> tuple[View, ...]:
        """The two answers under the image, and the chosen one under the degraded image."""
        degraded = self.conditional or self.anchor_degraded_image
        return (CHOSEN, REJECTED, *((self._degraded,) if degraded else ()))

    @property
    def _degraded(self) -> View:
        return View("chosen", self.degraded_image)

    def __call__(self, policy: ByView, reference: ByView) -> Outcome:
        """Return losses and rewards of a batch."""
        from torch.nn.functional import logsigmoid

        rewards = rewards_of(self.beta, self.views, policy, reference)
        losses = -logsigmoid(rewards[CHOSEN] - rewards[REJECTED])
        if self.conditional:
            losses = losses - logsigmoid(rewards[CHOSEN] - rewards[self._degraded])
        if self.anchor:
            losses = losses - logsigmoid(rewards[CHOSEN] - self.anchor_value)
        if self.anchor_rejected:
            losses = losses - logsigmoid(self.anchor_value - rewards[REJECTED])
        if self.anchor_degraded_image:
            losses = losses - logsigmoid(self.anchor_value - rewards[self._degraded])
        return Outcome(losses, detached(rewards))
