"""Sampling many completions at once from few prompts.

A prompt and the openings that are to be completed after it share one forward pass: each opening
sees the prompt and the tokens it begins with, and what several openings have in common is computed
once. Hidden prompt tokens are left out of the sequence while all others keep their positions, which
gives what an attention mask over the full sequence gives. Then all openings of all prompts are
completed as one batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from mmpref.models import Prompt, VisionLanguageModel
from mmpref.sampling.splitting import has_open_stop, sentence_end

# A token with one of these may end a sentence; the last stands for part of a character.
_ENDS = frozenset(".!?…。！？\n\ufffd")


@dataclass(frozen=True)
class Request:
    """What to complete: an answer that begins with the tokens `context`.

    The completion takes one of `uniforms` [T], draws from U(0, 1), for each token, and so has T
    tokens at most. With `begin`, it ends with the sentence that begins at `context[begin]`;
    without, with the answer.
    """

    context: list[int]
    uniforms: np.ndarray
    begin: int | None = None


@dataclass(frozen=True)
class Completion:
    """A sampled text, what ended it, and the sampled tokens without the end-of-sequence token.

    `token_ids` may go on for a token or two after the end of a sentence, by which that was told.
    """

    text: str
    end: Literal["sentence", "answer", "limit"]
    token_ids: list[int]


@dataclass(frozen=True)
class Prefilled:
    """What a model has read, for N contexts in all, listed prompt by prompt.

    `hidden` [N, H] are the last hidden states of the contexts, `positions` [N] of their next
    tokens. `cache` holds keys and values [B, heads, L, width] of each layer, `rows` [N] tells in
    which row there a context lies and `keys` [N, L] which tokens of it its last token sees.
    """

    cache: list[tuple[Tensor, Tensor]]
    hidden: Tensor
    positions: Tensor
    rows: Tensor
    keys: Tensor


def prefill(
    vlm: VisionLanguageModel,
    prompts: Sequence[Prompt],
    visible: Sequence[Tensor],
    contexts: Sequence[Sequence[list[int]]],
) -> Prefilled:
    """Read the prompts' visible tokens and the contexts [prompt][context] that follow each.

    A row is `[prompt, trunk, branch, branch, ...]`: the trunk is the longest context, and a branch
    is what another context does not have in common with it.
    """
    rows = [_row(*row) for row in zip(prompts, visible, contexts, strict=True)]
    features = vlm.image_features(prompts)
    embeddings = torch.nn.utils.rnn.pad_sequence(
        [
            vlm.embed(prompt, feature, row.answer_ids)[row.kept.to(vlm.device)]
            for prompt, feature, row in zip(prompts, features, rows, strict=True)
        ],
        batch_first=True,
    )

    def padded(name: str, value: int) -> Tensor:
        parts = [getattr(row, name) for row in rows]
        whole = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=value)
        return whole.to(vlm.device)

    segments, reach, positions = padded("segments", -1), padded("reach", -1), padded("positions", 0)
    column = torch.arange(embeddings.shape[1], device=vlm.device)
    own = (segments[:, :, None] == segments[:, None, :]) & (column <= column[:, None])
    trunk = (segments == 0)[:, None, :] & (column <= reach[:, :, None])
    sees = own | trunk
    cache = DynamicCache()
    hidden = vlm.language_model(
        inputs_embeds=embeddings,
        attention_mask=_additive(sees, embeddings.dtype)[:, None],
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state
    row_of = torch.cat([torch.full_like(row.last, i) for i, row in enumerate(rows)]).to(vlm.device)
    last = torch.cat([row.last for row in rows]).to(vlm.device)
    return Prefilled(
        [(keys, values) for keys, values, _ in cache],
        hidden[row_of, last],
        positions[row_of, last] + 1,
        row_of,
        sees[row_of, last],
    )


class Sampler:
    """Completes what a model has begun to say, at a temperature (0 is greedy) and within a nucleus.

    In float32 or float64 a completion depends on its prompt, mask, context and uniforms alone, not
    on what else is in the batch; in bfloat16 batches of another shape round differently.
    """

    def __init__(self, vlm: VisionLanguageModel, temperature: float, top_p: float) -> None:
        self.vlm = vlm
        self.temperature = temperature
        self.top_p = top_p
        vocabulary = vlm.processor.tokenizer.batch_decode(
            [[i] for i in range(len(vlm.processor.tokenizer))]
        )
        self._unsampled = torch.tensor(vlm.processor.unsampled_token_ids, device=vlm.device)
        self._may_end = [not _ENDS.isdisjoint(text) for text in vocabulary]

    @torch.no_grad()
    def complete(
        self,
        prompts: Sequence[Prompt],
        visible: Sequence[Tensor],
        requests: Sequence[Sequence[Request]],
    ) -> list[list[Completion]]:
        """Return the completions [prompt][request]; `visible` [P] tells each prompt's tokens."""
        contexts = [[request.context for request in row] for row in requests]
        runs = [_Run(self.vlm, request) for row in requests for request in row]
        self._decode(prefill(self.vlm, prompts, visible, contexts), runs)
        done = iter(runs)
        return [[next(done).completion() for _ in row] for row in requests]

    def _decode(self, start: Prefilled, runs: list["_Run"]) -> None:
        vlm = self.vlm
        room = max(len(run.request.uniforms) for run in runs)
        uniforms = np.zeros((len(runs), room))
        for i, run in enumerate(runs):
            uniforms[i, : len(run.request.uniforms)] = run.request.uniforms
        draws = torch.from_numpy(uniforms).to(vlm.device)
        layers = [_Buffer(keys, values, start.rows, room) for keys, values in start.cache]
        cache = Cache(layers=list(layers))
        dtype = start.hidden.dtype
        mask = _additive(torch.nn.functional.pad(start.keys, (0, room), value=True), dtype)
        mask, positions, hidden = mask[:, None, None], start.positions, start.hidden
        length = start.keys.shape[1]
        batch = runs
        for step in range(room):
            token_ids = self.draw(vlm.lm_head(hidden), draws[:, step])
            for run, token_id in zip(batch, token_ids.tolist(), strict=True):
                if not run.finished:
                    run.append(token_id, self._may_end[token_id])
            going = [i for i, run in enumerate(batch) if not run.finished]
            if not going:
                return
            # Dropping the finished ones copies the cache, so that is not done for each of them.
            if len(going) <= 0.8 * len(batch):
                batch = [batch[i] for i in going]
                index = torch.tensor(going, device=vlm.device)
                token_ids, draws = token_ids[index], draws[index]
                mask, positions = mask[index], positions[index]
                for layer in layers:
                    layer.batch_select_indices(index)
            hidden = vlm.language_model(
                inputs_embeds=vlm.model.get_input_embeddings()(token_ids[:, None]),
                attention_mask=mask[..., : length + step + 1],
                position_ids=positions[:, None] + step,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]

    def draw(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """Return token ids [N] for logits [N, V] and draws [N] from U(0, 1).

        The drawn token is the one in whose share of the cumulative distribution the uniform lies.
        Tokens are laid out by id, not by probability, because rounding may exchange tokens of
        nearly equal probability. The nucleus holds the likeliest tokens whose probabilities add up
        to `top_p`, the token that crosses it included.
        """
        logits = logits.float().index_fill(1, self._unsampled, -torch.inf)
        if self.temperature == 0:
            return logits.argmax(-1)
        probabilities = (logits.double() / self.temperature).softmax(-1)
        if self.top_p < 1:
            ordered = probabilities.sort(-1, descending=True).values
            inside = ordered.cumsum(-1) - ordered < self.top_p
            least = ordered.gather(-1, inside.sum(-1, keepdim=True) - 1)
            probabilities = probabilities.masked_fill(probabilities < least, 0)
        cumulative = probabilities.cumsum(-1)
        total = cumulative[:, -1:]
        # Rounding may take the product up to the total, which lies in no token's share.
        below = torch.nextafter(total, torch.zeros_like(total))
        drawn = torch.minimum(uniforms[:, None].double() * total, below)
        return torch.searchsorted(cumulative, drawn, right=True)[:, 0]


@dataclass
class _Run:
    """A request while it is being completed."""

    vlm: VisionLanguageModel
    request: Request
    token_ids: list[int] = field(default_factory=list)
    end: Literal["sentence", "answer", "limit"] | None = None
    undecided: bool = False

    @property
    def finished(self) -> bool:
        return self.end is not None

    def append(self, token_id: int, may_end: bool) -> None:
        """Take the next token and find out whether it is the last."""
        if token_id == self.vlm.processor.eos_token_id:
            self.end = "answer"
            return
        self.token_ids.append(token_id)
        at_limit = len(self.token_ids) == len(self.request.uniforms)
        if self.request.begin is not None and (may_end or self.undecided):
            text, start = self._sentence()
            if sentence_end(text, start, more_may_come=not at_limit) is not None:
                self.end = "sentence"
                return
            self.undecided = has_open_stop(text)
        if at_limit:
            self.end = "limit"

    def completion(self) -> Completion:
        assert self.end is not None
        if self.request.begin is None:
            return Completion(
                self.vlm.processor.decode(self.token_ids).strip(), self.end, self.token_ids
            )
        text, start = self._sentence()
        end = sentence_end(text, start)
        return Completion(text[start:end].rstrip(), self.end, self.token_ids)

    def _sentence(self) -> tuple[str, int]:
        """Return the text of the sentence so far and where its completion begins."""
        opening = self.request.context[self.request.begin :]
        text = self.vlm.processor.decode(opening + self.token_ids)
        # Some tokenizers write a text's last token differently when more follows.
        return text, _common(self.vlm.processor.decode(opening), text)


class _Buffer(DynamicLayer):
    """Keys and values of a batch, with room for the tokens to come so that none are copied."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, rows: Tensor, room: int) -> None:
        super().__init__()
        self.is_initialized = True
        self.length = keys.shape[-2]
        self.keys, self.values = (
            torch.nn.functional.pad(states[rows], (0, 0, 0, room)) for states in (keys, values)
        )

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Add the states of new tokens; return those of all tokens so far."""
        end = self.length + key_states.shape[-2]
        self.keys[..., self.length : end, :] = key_states
        self.values[..., self.length : end, :] = value_states
        self.length = end
        return self.keys[..., :end, :], self.values[..., :end, :]

    def get_seq_length(self) -> int:
        """Return how many tokens there are so far."""
        return self.length


@dataclass(frozen=True)
class _Row:
    """The tokens [L] of one prompt and its contexts.

    `answer_ids` are the tokens after the prompt, `kept` tells which of prompt and answer are in the
    row. `segments` is 0 for prompt and trunk and 1.. for branches, `reach` the last column of
    prompt and trunk that a token sees, `last` [contexts] the column of each context's last token.
    """

    answer_ids: Tensor
    kept: Tensor
    positions: Tensor
    segments: Tensor
    reach: Tensor
    last: Tensor


def _row(prompt: Prompt, visible: Tensor, contexts: Sequence[list[int]]) -> _Row:
    trunk = max(contexts, key=len)
    shown = int(visible.sum())
    positions = [visible.nonzero()[:, 0], len(prompt) + torch.arange(len(trunk))]
    reach = [torch.arange(shown + len(trunk))]
    segments = [torch.zeros(shown + len(trunk), dtype=torch.long)]
    answer_ids = list(trunk)
    last = []
    for number, context in enumerate(contexts, 1):
        common = _common(trunk, context)
        branch = len(context) - common
        if branch:
            answer_ids += context[common:]
            positions.append(len(prompt) + common + torch.arange(branch))
            reach.append(torch.full((branch,), shown + common - 1))
            segments.append(torch.full((branch,), number))
            last.append(shown + len(answer_ids) - 1)
        else:
            last.append(shown + len(context) - 1)
    return _Row(
        torch.tensor(answer_ids, dtype=torch.long),
        torch.cat([visible, torch.ones(len(answer_ids), dtype=torch.bool)]),
        torch.cat(positions),
        torch.cat(segments),
        torch.cat(reach),
        torch.tensor(last),
    )


def _common(one: Sequence[object], other: Sequence[object]) -> int:
    """Return how many elements two sequences have in common before they differ."""
    shorter = min(len(one), len(other))
    if one[:shorter] == other[:shorter]:
        return shorter
    return next(i for i in range(shorter) if one[i] != other[i])


def _additive(sees: Tensor, dtype: torch.dtype) -> Tensor:
    """Return 0 where a token sees another and a very negative number elsewhere."""
    mask = torch.zeros(sees.shape, dtype=dtype, device=sees.device)
    return mask.masked_fill(~sees, torch.finfo(dtype).min)
