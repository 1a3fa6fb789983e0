"""What every objective is."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mmpref.logprobs.views import LogProbs, View
from mmpref.study.parts import Part

if TYPE_CHECKING:
    from torch import Tensor

ByView = Mapping[View, LogProbs]
"""What a model says of each view of a batch."""


@dataclass(frozen=True)
class Outcome:
    """Losses [B] to be averaged, and the reward [B] of each view that has one, detached."""

    losses: "Tensor"
    rewards: "dict[View, Tensor]"


class Objective(Part):
    """An objective with its settings, which are its fields; `name` is how a study calls it."""

    by_token: ClassVar[bool] = False
    """Whether it needs the log-probability of each token."""

    @property
    @abstractmethod
    def views(self) -> tuple[View, ...]:
        """The log-probabilities it needs."""

    @abstractmethod
    def __call__(self, policy: ByView, reference: ByView) -> Outcome:
        """Return losses and rewards of a batch."""


def rewards_of(
    beta: float, views: Iterable[View], policy: ByView, reference: ByView
) -> "dict[View, Tensor]":
    """Return the implicit reward beta * (log pi_policy - log pi_reference) of every view, [B]."""
    return {view: beta * (policy[view].sum - reference[view].sum) for view in views}


def detached(rewards: "dict[View, Tensor]") -> "dict[View, Tensor]":
    """Return rewards as an `Outcome` reports them."""
    return {view: reward.detach() for view, reward in rewards.items()}
