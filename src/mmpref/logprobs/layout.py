"""Where tokens lie, at which positions, and which of them see each other.

Rows `[trunk, branch, branch, ...]` lie one after the other, without padding. A token of a trunk
sees the trunk up to itself; a token of a branch sees the beginning of its row's trunk and its own
branch up to itself. For scoring, the trunk is image and prompt and every answer is a branch; for
sampling, the prompt with the longest context, and what other contexts do not share with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from operator import eq

import torch
from torch import Tensor, nn

from mmpref.models import Prompt
from mmpref.models.family import Family


@dataclass(frozen=True)
class Segment:
    """A trunk or, of the segment number `trunk`, a branch that sees the first `reach` of it."""

    length: int
    trunk: int | None = None
    reach: int = 0


@dataclass(frozen=True)
class Layout:
    """The N tokens of some rows, with `input_ids` [N] and `is_image` [N].

    `positions` is [1, N] or, for a family with axes, [axes, 1, N]. `features` [image tokens of all
    prompts] tells which image features are used, `last_only` whether of a trunk's hidden states
    only the last one is.
    """

    segments: list[Segment]
    positions: Tensor
    input_ids: Tensor
    is_image: Tensor
    features: Tensor
    last_only: bool
    _masks: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def mask(self, length: int, reach: int, device: torch.device) -> Tensor:
        """Return what a branch's tokens see [length, reach + length] of trunk and themselves."""
        if (length, reach) not in self._masks:
            seen = torch.ones(length, reach + length, dtype=torch.bool, device=device)
            self._masks[length, reach] = seen.tril(reach)
        return self._masks[length, reach]


def scoring_layout(
    family: Family, prompts: Sequence[Prompt], answers: Sequence[Sequence[Tensor]]
) -> tuple[Layout, Tensor]:
    """Return rows `[prompt, answer, answer, ...]`, and where each answer token [T] is predicted.

    An answer's last token predicts nothing and is left out.
    """
    rows = _Rows()
    predicted_at = []
    for prompt, row in zip(prompts, answers, strict=True):
        positions = family.positions(prompt)
        trunk = rows.add(prompt.input_ids, positions, prompt.is_image)
        last = torch.tensor([rows.total - 1])
        for answer in row:
            read = answer[:-1]
            predicted_at += [last, rows.total + torch.arange(len(read))]
            after = family.answer_positions(positions, len(read))
            rows.add(read, after, trunk=trunk, reach=len(prompt))
    features = torch.ones(sum(int(prompt.is_image.sum()) for prompt in prompts), dtype=torch.bool)
    return rows.layout(features, last_only=True), torch.cat(predicted_at)


@dataclass(frozen=True)
class Opened:
    """Where the tokens [n] lie that a context's next token sees, and the positions of what follows.

    The last of `columns` is the context's last token. `positions` is [count] or [axes, count].
    """

    columns: Tensor
    positions: Tensor


def sampling_layout(
    family: Family,
    prompts: Sequence[Prompt],
    visible: Sequence[Tensor],
    contexts: Sequence[Sequence[Sequence[int]]],
    room: int,
) -> tuple[Layout, list[Opened]]:
    """Return rows of the `visible` [P] tokens of prompts and the contexts [prompt][context].

    Visible tokens keep their positions. `room` is how many tokens may follow a context.
    """
    rows = _Rows()
    opened = []
    for prompt, shown, row in zip(prompts, visible, contexts, strict=True):
        positions = family.positions(prompt)
        longest = max(row, key=len)
        after = family.answer_positions(positions, len(longest) + room)
        start, seen = rows.total, int(shown.sum())
        trunk = rows.add(
            torch.cat([prompt.input_ids[shown], torch.tensor(longest, dtype=torch.long)]),
            torch.cat([positions[..., shown], after[..., : len(longest)]], -1),
            nn.functional.pad(prompt.is_image[shown], (0, len(longest))),
        )
        for context in row:
            common = common_start(longest, context)
            branch = torch.tensor(context[common:], dtype=torch.long)
            columns = [start + torch.arange(seen + common)]
            if len(branch):
                columns.append(rows.total + torch.arange(len(branch)))
                place = after[..., common : len(context)]
                rows.add(branch, place, trunk=trunk, reach=seen + common)
            place = after[..., len(context) : len(context) + room]
            opened.append(Opened(torch.cat(columns), place))
    features = [shown[prompt.is_image] for prompt, shown in zip(prompts, visible, strict=True)]
    return rows.layout(torch.cat(features), last_only=False), opened


def common_start(one: Sequence[object], other: Sequence[object]) -> int:
    """Return how many elements two sequences have in common before they differ."""
    return sum(takewhile(bool, map(eq, one, other)))


class _Rows:
    def __init__(self) -> None:
        self.parts: list[tuple[Segment, Tensor, Tensor, Tensor]] = []
        self.total = 0

    def add(
        self, ids: Tensor, positions: Tensor, image: Tensor | None = None, **branch: int
    ) -> int:
        """Add a trunk, or a `branch`, of text unless `image` is given; return its number."""
        is_image = torch.zeros_like(ids, dtype=torch.bool) if image is None else image
        self.parts.append((Segment(len(ids), **branch), positions, ids, is_image))
        self.total += len(ids)
        return len(self.parts) - 1

    def layout(self, features: Tensor, last_only: bool) -> Layout:
        segments, positions, ids, is_image = zip(*self.parts, strict=True)
        places = torch.cat(positions, -1)[..., None, :]
        tokens = torch.cat(ids), torch.cat(is_image)
        return Layout(list(segments), places, *tokens, features, last_only)
