"""What an objective returns."""

from dataclasses import dataclass

from torch import Tensor

# The log-probability [B] of every view, by the view's name.
LogProbabilities = dict[str, Tensor]


@dataclass(frozen=True)
class Outcome:
    """Losses [B] to be averaged, and each view's reward [B], detached."""

    losses: Tensor
    rewards: dict[str, Tensor]


def rewards_of(
    beta: float, views: tuple[str, ...], policy: LogProbabilities, reference: LogProbabilities
) -> dict[str, Tensor]:
    """Return the implicit reward beta * (log pi_policy - log pi_reference) of every view, [B]."""
    return {view: beta * (policy[view] - reference[view]) for view in views}
