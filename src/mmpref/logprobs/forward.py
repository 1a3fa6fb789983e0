"""Log-probabilities of answers: the one place where a batch meets a model.

Image and prompt are the same for all answers to them and are most of the tokens, so they are
computed once: a row is `[prefix, answer, answer, ...]`, every answer attends to the prefix and to
itself, and its positions continue those of the prefix. The result is that of giving every answer a
sequence of its own, to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmpref.logprobs.views import LogProbs, View
from mmpref.models import Prompt, VisionLanguageModel


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
    """Return what the model says of every view of a batch, on request of each token too."""
    found: dict[View, LogProbs] = {}
    for image in dict.fromkeys(view.image for view in views):
        views_here = [view for view in views if view.image == image]
        prompts = [example.prompts[image] for example in examples]
        answers = [[example.answers[view.answer] for view in views_here] for example in examples]
        table, each = _answers_after_shared_prefix(vlm, prompts, answers)
        for number, view in enumerate(views_here):
            lengths = [len(row[number]) for row in answers]
            mine = [each[i * len(views_here) + number] for i in range(len(answers))]
            found[view] = LogProbs(
                table[:, number],
                torch.tensor(lengths, device=table.device),
                torch.nn.utils.rnn.pad_sequence(mine, batch_first=True) if by_token else None,
            )
    return found


def _answers_after_shared_prefix(
    vlm: VisionLanguageModel, prompts: list[Prompt], answers: list[list[Tensor]]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return log-probabilities [B, A] of each prompt's answers, and of their tokens, flat."""
    features = vlm.image_features(prompts)
    rows = [
        vlm.embed(prompt, feature, torch.cat(row))
        for prompt, feature, row in zip(prompts, features, answers, strict=True)
    ]
    embeddings = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    batch, length = embeddings.shape[:2]

    # 0 is the prefix, 1.. are the answers, -1 is padding.
    segments = torch.full((batch, length), -1)
    positions = torch.zeros(batch, length, dtype=torch.long)
    # Where the hidden state lies that predicts a token, the token, and the answer it belongs to.
    rows_at: list[Tensor] = []
    columns_at: list[Tensor] = []
    answer_at: list[Tensor] = []
    for i, (prompt, row) in enumerate(zip(prompts, answers, strict=True)):
        start = len(prompt)
        segments[i, :start] = 0
        positions[i, :start] = torch.arange(start)
        for j, answer in enumerate(row):
            end = start + len(answer)
            segments[i, start:end] = j + 1
            positions[i, start:end] = len(prompt) + torch.arange(len(answer))
            columns_at.append(
                torch.cat([torch.tensor([len(prompt) - 1]), torch.arange(start, end - 1)])
            )
            rows_at.append(torch.full((len(answer),), i))
            answer_at.append(torch.full((len(answer),), i * len(row) + j))
            start = end

    hidden = vlm.language_model(
        inputs_embeds=embeddings,
        attention_mask=block_mask(segments, embeddings.dtype).to(vlm.device),
        position_ids=positions.to(vlm.device),
        use_cache=False,
    ).last_hidden_state
    hidden = hidden[torch.cat(rows_at).to(vlm.device), torch.cat(columns_at).to(vlm.device)]
    targets = torch.cat([answer for row in answers for answer in row]).to(vlm.device)
    token_logps = -torch.nn.functional.cross_entropy(
        vlm.lm_head(hidden).float(), targets, reduction="none"
    )
    logps = torch.zeros(batch * len(answers[0]), device=vlm.device)
    table = logps.index_add(0, torch.cat(answer_at).to(vlm.device), token_logps).view(batch, -1)
    return table, token_logps.split([len(answer) for row in answers for answer in row])


def block_mask(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the additive attention mask [B, 1, L, L] of rows `[prefix, answer, answer, ...]`.

    `segments` [B, L] is 0 for the prefix, 1.. for the answers and -1 for padding. A token sees the
    earlier tokens of the prefix and of its own segment.
    """
    length = segments.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool).tril()
    keys, queries = segments[:, None, :], segments[:, :, None]
    visible = earlier & ((keys == 0) | (keys == queries))
    mask = torch.zeros(visible.shape, dtype=dtype)
    # A finite minimum, so that a row of padding gives a uniform attention and not NaN.
    return mask.masked_fill(~visible, torch.finfo(dtype).min)[:, None]
