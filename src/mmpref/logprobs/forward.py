"""Log-probabilities of answers: the one place where a batch meets a model.

Image and prompt are the same for all answers to them and are most of the tokens, so they are
computed once and every answer attends to them and to itself (`layout`, `attention`). The result is
that of giving every answer a sequence of its own, to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmpref.logprobs.attention import read
from mmpref.logprobs.layout import scoring_layout
from mmpref.logprobs.views import LogProbs, View
from mmpref.models import Prompt, VisionLanguageModel

CHUNK_VALUES = 2**23
"""Logits that exist at a time, 32 MB in float32."""


@dataclass(frozen=True)
class Example:
    """A pair, encoded: `prompts` by image (`View.image`), `answers` [R] by name."""

    id: str
    prompts: dict[str, Prompt]
    answers: dict[str, Tensor]


def log_probabilities(
    vlm: VisionLanguageModel,
    examples: Sequence[Example],
    views: Sequence[View],
    by_token: bool = False,
) -> dict[View, LogProbs]:
    """Return what the model says of every view of a batch, `by_token` for each token too."""
    found: dict[View, LogProbs] = {}
    for image in dict.fromkeys(view.image for view in views):
        views_here = [view for view in views if view.image == image]
        prompts = [example.prompts[image] for example in examples]
        answers = [[example.answers[view.answer] for view in views_here] for example in examples]
        table = _by_token(vlm, prompts, answers)
        for number, view in enumerate(views_here):
            own = [row[number] for row in table]
            tokens = torch.tensor([len(logps) for logps in own], device=vlm.device)
            padded = torch.nn.utils.rnn.pad_sequence(own, batch_first=True)
            found[view] = LogProbs(padded.sum(1), tokens, padded if by_token else None)
    return found


def _by_token(
    vlm: VisionLanguageModel, prompts: Sequence[Prompt], answers: Sequence[Sequence[Tensor]]
) -> list[list[Tensor]]:
    """Return the log-probabilities [R] of the tokens of each prompt's answers."""
    layout, predicted_at = scoring_layout(vlm.family, prompts, answers)
    features = torch.cat(vlm.image_features(prompts))
    hidden = read(vlm, layout, features, use_cache=False)[predicted_at.to(vlm.device)]
    flat = [answer for row in answers for answer in row]
    targets = torch.cat(flat).to(vlm.device)
    logps: Tensor = _TokenLogProbs.apply(hidden, targets, vlm)
    parts = iter(logps.split([len(answer) for answer in flat]))
    return [[next(parts) for _ in row] for row in answers]


class _TokenLogProbs(torch.autograd.Function):
    """Log-probabilities [T] of tokens, from the hidden states [T, H] that predict them.

    A token's log-probability depends on its own hidden state alone, so the gradient is known, up to
    a factor, as soon as the logits are: it is taken chunk by chunk while they are there. Logits are
    neither kept for the backward pass nor computed twice. The head is frozen.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, targets: Tensor, vlm: VisionLanguageModel) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        size = max(1, CHUNK_VALUES // vlm.model.config.get_text_config().vocab_size)
        logps, slopes = [], []
        for states, ids in zip(hidden.split(size), targets.split(size), strict=True):
            with torch.set_grad_enabled(wanted):
                states = states.detach().requires_grad_(wanted)
                own = -torch.nn.functional.cross_entropy(
                    vlm.lm_head(states).float(), ids, reduction="none"
                )
            logps.append(own.detach())
            if wanted:
                slopes += torch.autograd.grad(own, states, torch.ones_like(own))
        if wanted:
            ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(logps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return (gradients[0][:, None] * slopes.float()).to(slopes.dtype), None, None
