"""Direct preference optimisation."""

from dataclasses import dataclass

from torch.nn.functional import logsigmoid

from mmpref.objectives.outcome import LogProbabilities, Outcome, rewards_of


@dataclass(frozen=True)
class DPO:
    """-log sigmoid(r_chosen - r_rejected), r = beta * log(pi / pi_ref).

    Source: Rafailov et al. 2023, Equation 7; with images, L_DPOm of mDPO (Wang et al. 2024).
    """

    beta: float = 0.1

    @property
    def views(self) -> tuple[str, ...]:
        """The log-probabilities it needs."""
        return ("chosen", "rejected")

    def __call__(self, policy: LogProbabilities, reference: LogProbabilities) -> Outcome:
        """Return losses and rewards of a batch; inputs are [B] in nats for every view."""
        rewards = rewards_of(self.beta, self.views, policy, reference)
        losses = -logsigmoid(rewards["chosen"] - rewards["rejected"])
        return Outcome(losses, {view: reward.detach() for view, reward in rewards.items()})
