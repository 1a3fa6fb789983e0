"""The policy: the model with an adapter to train."""

from collections.abc import Sequence

import peft
from torch import nn

from mmpref.logprobs.forward import Example, log_probabilities
from mmpref.logprobs.views import LogProbs, View
from mmpref.models import VisionLanguageModel


class Policy(nn.Module):
    """A model whose forward gives log-probabilities: DeepSpeed has to see a forward call."""

    def __init__(self, vlm: VisionLanguageModel, adapted: peft.PeftModel) -> None:
        super().__init__()
        self.vlm = vlm
        self.adapted = adapted

    def forward(self, examples: Sequence[Example], views: Sequence[View]) -> dict[View, LogProbs]:
        """Return what the policy says of the views."""
        return log_probabilities(self.vlm, examples, views)

    def trained(self) -> dict[str, nn.Parameter]:
        """Return the parameters that are trained, by PEFT's names."""
        return {
            name: parameter
            for name, parameter in self.adapted.named_parameters()
            if parameter.requires_grad
        }
