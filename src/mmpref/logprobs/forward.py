"""Log-probabilities of answers: the one place where a batch meets a model.

Image and prompt, most of the tokens, are computed once for all answers to them (`layout`,
`attention`); the result is that of giving every answer a sequence of its own, to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

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
        layout, predicted_at = scoring_layout(vlm.family, prompts, answers)
        features = torch.cat(vlm.image_features(prompts))
        hidden = read(vlm, layout, features, use_cache=False)[predicted_at.to(vlm.device)]
        flat = [answer for row in answers for answer in row]
        logps = _token_logps(hidden, torch.cat(flat).to(vlm.device), vlm)
        of_answers = logps.split([len(answer) for answer in flat])
        for number, view in enumerate(views_here):
            own = of_answers[number :: len(views_here)]
            tokens = torch.tensor([len(logps) for logps in own], device=vlm.device)
            padded = torch.nn.utils.rnn.pad_sequence(own, batch_first=True)
            found[view] = LogProbs(padded.sum(1), tokens, padded if by_token else None)
    return found


def _token_logps(hidden: Tensor, targets: Tensor, vlm: VisionLanguageModel) -> Tensor:
    """Return the log-probabilities [T] of tokens, from the hidden states [T, H] that predict them.

    Logits exist a chunk at a time. Only for a trained head are they computed again in the backward
    pass: its gradient depends on what is made of each token's log-probability.
    """
    size = max(1, CHUNK_VALUES // vlm.model.config.get_text_config().vocab_size)
    chunks = zip(hidden.split(size), targets.split(size), strict=True)
    if any(weight.requires_grad for weight in vlm.lm_head.parameters()) and torch.is_grad_enabled():
        again = partial(checkpoint, _chunk_logps, use_reentrant=False)
        return torch.cat([again(*chunk, vlm) for chunk in chunks])
    return torch.cat([_FrozenHead.apply(*chunk, vlm) for chunk in chunks])


def _chunk_logps(states: Tensor, ids: Tensor, vlm: VisionLanguageModel) -> Tensor:
    return -torch.nn.functional.cross_entropy(vlm.lm_head(states).float(), ids, reduction="none")


class _FrozenHead(torch.autograd.Function):
    """`_chunk_logps` without logits that are kept for the backward pass or computed twice.

    A token's log-probability depends on its own hidden state alone, so the gradient is known, up to
    a factor, as soon as the logits are: it is taken while they are there.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, ids: Tensor, vlm: VisionLanguageModel) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        with torch.set_grad_enabled(wanted):
            states = states.detach().requires_grad_(wanted)
            logps = _chunk_logps(states, ids, vlm)
        if wanted:
            ctx.save_for_backward(*torch.autograd.grad(logps, states, torch.ones_like(logps)))
        return logps.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return (gradients[0][:, None] * slopes.float()).to(slopes.dtype), None, None
