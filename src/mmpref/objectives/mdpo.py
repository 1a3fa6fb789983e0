"""Multimodal DPO: a preference over images, and an anchor, beside the one over answers."""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from mmpref.objectives.outcome import LogProbabilities, Outcome, rewards_of


@dataclass(frozen=True)
class MDPO:
    """L_DPOm + L_CoPO + L_AncPO with weights 1 : 1 : 1 (Wang et al. 2024, section 3).

    The conditional term (CoPO) asks that the chosen answer be worth more under the original image
    than under the degraded one; the anchor (AncPO) asks that its reward stay above `anchor_value`
    (delta in the paper). `anchor_rejected` and `anchor_degraded_image` are the ablation of the
    paper's Table 4: those rewards are pushed below `anchor_value`.
    """

    beta: float = 0.1
    conditional: bool = True
    anchor: bool = True
    anchor_value: float = 0.0
    anchor_rejected: bool = False
    anchor_degraded_image: bool = False

    @property
    def views(self) -> tuple[str, ...]:
        """The log-probabilities it needs."""
        degraded = self.conditional or self.anchor_degraded_image
        return ("chosen", "rejected", *(("chosen_degraded_image",) if degraded else ()))

    def __call__(self, policy: LogProbabilities, reference: LogProbabilities) -> Outcome:
        """Return losses and rewards of a batch; inputs are [B] in nats for every view."""
        rewards = rewards_of(self.beta, self.views, policy, reference)
        losses = -logsigmoid(rewards["chosen"] - rewards["rejected"])
        if self.conditional:
            losses = losses - logsigmoid(rewards["chosen"] - rewards["chosen_degraded_image"])
        if self.anchor:
            losses = losses - logsigmoid(rewards["chosen"] - self.anchor_value)
        if self.anchor_rejected:
            losses = losses - logsigmoid(self.anchor_value - rewards["rejected"])
        if self.anchor_degraded_image:
            losses = losses - logsigmoid(self.anchor_value - rewards["chosen_degraded_image"])
        return Outcome(losses, {view: reward.detach() for view, reward in rewards.items()})
