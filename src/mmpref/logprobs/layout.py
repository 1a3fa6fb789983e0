"""Where tokens lie, at which positions, and which of them see each other.

Rows `[trunk, branch, branch, ...]` lie one after the other, without padding. A token of a trunk
sees the trunk up to itself; a token of a branch sees the beginning of its row's trunk and its own
branch up to itself. For scoring, the trunk is image and prompt and every answer is a branch; for
sampling, the prompt with the longest context, and what other contexts do not share with it. In some
families the tokens of an image also see those that come after them, and some layers see a window
only: what lies so many positions back or more is hidden.
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
    only the last one is, `images_see_themselves` whether the tokens of an image see those of it
    that come after them.
    """

    segments: list[Segment]
    positions: Tensor
    input_ids: Tensor
    is_image: Tensor
    features: Tensor
    last_only: bool
    images_see_themselves: bool
    _masks: dict[tuple[torch.device, int, int | None], Tensor | None] = field(default_factory=dict)

    def mask(self, number: int, window: int | None, device: torch.device) -> Tensor | None:
        """Return what a segment's tokens see of its trunk and themselves.

        The mask is [1, 1, length, reach + length], for one row and all heads. None stands for what
        a trunk's tokens see by default: all up to themselves. With a `window`, nothing is seen that
        lies so many positions back or more.
        """
        segment = self.segments[number]
        key = (device, number, window)
        if window is None and not self.images_see_themselves:
            if segment.trunk is None:
                return None
            # All branches of this shape see alike.
            key = (device, -segment.length, segment.reach)
        if key not in self._masks:
            seen = self._seen(number, window)
            self._masks[key] = None if seen is None else seen[None, None].to(device)
        return self._masks[key]

    def _seen(self, number: int, window: int | None) -> Tensor | None:
        segment = self.segments[number]
        own = columns = self._start(number) + torch.arange(segment.length)
        if segment.trunk is not None:
            before = self._start(segment.trunk) + torch.arange(segment.reach)
            columns = torch.cat([before, own])
        seen = torch.ones(len(own), len(columns), dtype=torch.bool).tril(segment.reach)
        plain = segment.trunk is None
        # Where there are axes, the first one counts text; no family with axes has a window.
        positions = self.positions.reshape(-1, self.positions.shape[-1])[0]
        back = positions[own][:, None] - positions[columns]
        if self.images_see_themselves and self.is_image[own].any():
            image = _runs(self.is_image[own])
            seen |= (image[:, None] == image) & (image > 0)
            plain = False
        if window and (back >= window).any():
            seen &= back < window
            plain = False
        return None if plain else seen

    def _start(self, number: int) -> int:
        return sum(segment.length for segment in self.segments[:number])


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
    return rows.layout(family, features, last_only=True), torch.cat(predicted_at)


@dataclass(frozen=True)
class Opened:
    """Where the tokens [n] lie that a context's next token sees, and the positions of what follows.

    The last of `columns` is the context's last token. `positions` is [count] or [axes, count],
    `read` [n] or [axes, n] are the positions of `columns`.
    """

    columns: Tensor
    read: Tensor
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
            read = torch.cat([positions[..., shown], after[..., : len(context)]], -1)
            place = after[..., len(context) : len(context) + room]
            opened.append(Opened(torch.cat(columns), read, place))
    features = [shown[prompt.is_image] for prompt, shown in zip(prompts, visible, strict=True)]
    return rows.layout(family, torch.cat(features), last_only=False), opened


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

    def layout(self, family: Family, features: Tensor, last_only: bool) -> Layout:
        segments, positions, ids, is_image = zip(*self.parts, strict=True)
        places = torch.cat(positions, -1)[..., None, :]
        tokens = torch.cat(ids), torch.cat(is_image)
        themselves = family.images_see_themselves
        return Layout(list(segments), places, *tokens, features, last_only, themselves)


def _runs(marked: Tensor) -> Tensor:
    """Return for each element the number, from 1, of its run of marked ones; 0 if not marked."""
    begins = marked & ~torch.cat([torch.zeros_like(marked[:1]), marked[:-1]])
    return begins.cumsum(0) * marked
