"""The policy: the model with an adapter to train."""

from collections.abc import Sequence

import peft
from torch import Tensor, nn

from mmpref.logprobs.forward import Example, log_probabilities
from mmpref.logprobs.views import LogProbs, View
from mmpref.models import VisionLanguageModel


class Policy(nn.Module):
    """A model whose forward gives log-probabilities: DeepSpeed has to see a forward call."""

    def __init__(self, vlm: VisionLanguageModel, adapted: peft.PeftModel) -> None:
        super().__init__()
        self.vlm = vlm
        self.adapted = adapted

    def forward(
        self, examples: Sequence[Example], views: Sequence[View], by_token: bool = False
    ) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        """Return the fields of `LogProbs` of each view; DeepSpeed looks into plain tuples only."""
        found = log_probabilities(self.vlm, examples, views, by_token)
        return [(found[view].sum, found[view].tokens, found[view].by_token) for view in views]

    def trained(self) -> dict[str, nn.Parameter]:
        """Return the parameters that are trained, by PEFT's names."""
        return {name: one for name, one in self.adapted.named_parameters() if one.requires_grad}


def said_by(
    policy: nn.Module, examples: Sequence[Example], views: Sequence[View], by_token: bool = False
) -> dict[View, LogProbs]:
    """Return what a policy, or DeepSpeed's engine around it, says of the views of a batch."""
    found = policy(examples, views, by_token)
    return {view: LogProbs(*fields) for view, fields in zip(views, found, strict=True)}
