"""Sampling many completions from few prompts.

What a prompt's openings have in common is read once (`mmpref.logprobs.layout`). Hidden tokens are
left out while all others keep their positions, which gives what an attention mask would give. Then
all openings are completed side by side; the row of a finished one goes to one that waits.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from mmpref.logprobs.attention import read
from mmpref.logprobs.layout import Opened, common_start, sampling_layout
from mmpref.models import Prompt, VisionLanguageModel
from mmpref.sampling.splitting import sentence_end

# A token with one of these may end a sentence; the last stands for part of a character.
_ENDS = frozenset(".!?…。！？\n\ufffd")

End = Literal["sentence", "answer", "limit"]


@dataclass(frozen=True)
class Request:
    """What to complete: an answer that begins with the tokens `context`.

    Each of at most T tokens takes one of `uniforms` [T], draws from U(0, 1). With `begin`, the
    completion ends with the sentence that begins at `context[begin]`; without, with the answer.
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
    end: End
    token_ids: list[int]


@dataclass(frozen=True)
class Job:
    """What to complete after a prompt, and a `key` to tell the result by.

    `visible` [P] tells which of the prompt's tokens are seen; `features` [image tokens, width] are
    the prompt's image features where they are known already.
    """

    key: int
    prompt: Prompt
    requests: Sequence[Request]
    visible: Tensor
    features: Tensor | None = None


def prefill(
    vlm: VisionLanguageModel, jobs: Sequence[Job]
) -> tuple[DynamicCache, Tensor, list[Opened]]:
    """Read the visible tokens of the jobs' prompts and the N contexts that follow them.

    Returns keys and values of all tokens, in a row, the last hidden states [N, H] of the contexts,
    and which tokens belong to each context.
    """
    layout, opened = sampling_layout(
        vlm.family,
        [job.prompt for job in jobs],
        [job.visible for job in jobs],
        [[request.context for request in job.requests] for job in jobs],
        room=max(len(request.uniforms) for job in jobs for request in job.requests),
    )
    unknown = iter(vlm.image_features([job.prompt for job in jobs if job.features is None]))
    features = [next(unknown) if job.features is None else job.features for job in jobs]
    cache = DynamicCache()
    hidden = read(vlm, layout, torch.cat(features), past_key_values=cache, use_cache=True)
    last = torch.stack([context.columns[-1] for context in opened]).to(vlm.device)
    return cache, hidden[last], opened


class Sampler:
    """Completes what a model has begun to say, at a temperature (0 is greedy) and within a nucleus.

    In float32 or float64 a completion depends on its prompt, mask, context and uniforms alone, not
    on what else is in the batch; in bfloat16 batches of another shape round differently.
    """

    def __init__(self, vlm: VisionLanguageModel, temperature: float, top_p: float) -> None:
        self.vlm = vlm
        self.temperature = temperature
        self.top_p = top_p
        unsampled = vlm.processor.unsampled_token_ids
        self._unsampled = torch.tensor(unsampled, dtype=torch.long, device=vlm.device)
        tokenizer = vlm.processor.tokenizer
        vocabulary = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
        self._may_end = [not _ENDS.isdisjoint(text) for text in vocabulary]

    @torch.no_grad()
    def complete(
        self, jobs: Iterable[Job], rows: int | None = None
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Yield each job's key and completions, in the order in which they are finished.

        At most `rows` completions (or those of one job) are made side by side, without it all.
        When an eighth of the rows is free, the next jobs are read.
        """
        rows = sys.maxsize if rows is None else rows
        waiting = iter(jobs)
        following = next(waiting, None)
        batch = _Batch(self.vlm)
        while following or batch.runs:
            going = len(batch.runs)
            if following and going <= rows - max(1, rows // 8):
                chosen: list[Job] = []
                while following and (going + len(following.requests) <= rows or not going):
                    chosen.append(following)
                    going += len(following.requests)
                    following = next(waiting, None)
                if chosen:
                    batch.add(chosen)
            uniforms = [run.request.uniforms[len(run.token_ids)] for run in batch.runs]
            logits = self.vlm.lm_head(batch.hidden)
            drawn = self.draw(logits, torch.tensor(uniforms, device=self.vlm.device)).tolist()
            for run, token_id in zip(batch.runs, drawn, strict=True):
                run.append(token_id, self._may_end[token_id])
            finished = {id(run.siblings): run.siblings for run in batch.runs if run.end}
            batch.read_on()
            for siblings in finished.values():
                if all(run.end for run in siblings):
                    yield siblings[0].job.key, [run.completion() for run in siblings]

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


@dataclass(eq=False)
class _Run:
    """A request while it is being completed; `siblings` are the runs of its job, itself too."""

    vlm: VisionLanguageModel
    job: Job
    request: Request
    opened: Opened
    siblings: list["_Run"]
    token_ids: list[int] = field(default_factory=list)
    end: End | None = None
    saw_stop: bool = False

    @property
    def length(self) -> int:
        """How many tokens, read or drawn, there are of its row."""
        return len(self.opened.columns) + len(self.token_ids)

    def positions(self) -> Tensor:
        """Return the position of each token of its row, of several axes the first."""
        own = self.opened.positions[..., : len(self.token_ids)]
        positions = torch.cat([self.opened.read, own], -1)
        return positions.reshape(-1, positions.shape[-1])[0]

    def append(self, token_id: int, may_end: bool) -> None:
        """Take the next token and find out whether it is the last."""
        if token_id in self.vlm.processor.stop_token_ids:
            self.end = "answer"
            return
        self.token_ids.append(token_id)
        if len(self.token_ids) == len(self.request.uniforms):
            self.end = "limit"
        # Whether a stop is one may be told by what follows.
        self.saw_stop |= self.request.begin is not None and may_end
        if self.saw_stop and sentence_end(*self._sentence(), self.end is None) is not None:
            self.end = "sentence"

    def completion(self) -> Completion:
        assert self.end
        if self.request.begin is None:
            text = self.vlm.processor.decode(self.token_ids).strip()
        else:
            whole, start = self._sentence()
            text = whole[start : sentence_end(whole, start)].rstrip()
        return Completion(text, self.end, self.token_ids)

    def _sentence(self) -> tuple[str, int]:
        """Return the text of the sentence so far and where its completion begins."""
        opening = self.request.context[self.request.begin :]
        text = self.vlm.processor.decode(opening + self.token_ids)
        # Some tokenizers write a text's last token differently when more follows.
        return text, common_start(self.vlm.processor.decode(opening), text)


class _Batch:
    """What is being completed: a run in each row, with what its model has read so far.

    Rows are kept without gaps: the last row takes the place of one that is finished.
    """

    def __init__(self, vlm: VisionLanguageModel) -> None:
        self.vlm = vlm
        self.runs: list[_Run] = []
        self.hidden = torch.empty(0)
        self.layers: list[_Buffer] = []

    def add(self, jobs: Sequence[Job]) -> None:
        """Read jobs and give each of their requests a row."""
        cache, hidden, contexts = prefill(self.vlm, jobs)
        self.layers = self.layers or [_Buffer(keys, values) for keys, values, _ in cache]
        self.hidden = torch.cat([self.hidden, hidden]) if self.runs else hidden
        opened = iter(contexts)
        first = len(self.runs)
        for job in jobs:
            siblings: list[_Run] = []
            for request in job.requests:
                siblings.append(_Run(self.vlm, job, request, next(opened), siblings))
            self.runs += siblings
        self._make_room()
        for row, run in enumerate(self.runs[first:], first):
            columns = run.opened.columns.to(self.vlm.device)
            for layer, (keys, values, _) in zip(self.layers, cache, strict=True):
                # Layers may lie on several GPUs.
                columns = columns.to(keys.device)
                layer.keys[row, :, : len(columns)] = keys[0][:, columns]
                layer.values[row, :, : len(columns)] = values[0][:, columns]

    def read_on(self) -> None:
        """Take finished runs out, and read the last token of the others."""
        for row in reversed(range(len(self.runs))):
            if self.runs[row].end:
                last = len(self.runs) - 1
                for layer in self.layers:
                    layer.keys[row], layer.values[row] = layer.keys[last], layer.values[last]
                self.runs[row] = self.runs[last]
                del self.runs[last]
        if not self.runs:
            return
        self._make_room()
        device = self.vlm.device
        read = [run.length - 1 for run in self.runs]
        lengths = torch.tensor(read, device=device)
        for layer in self.layers:
            layer.lengths, layer.longest = lengths.to(layer.keys.device), max(read)
        columns = torch.arange(max(read) + 1, device=device)
        positions = torch.stack(
            [run.opened.positions[..., len(run.token_ids) - 1] for run in self.runs], -1
        )
        others = {}
        window = getattr(self.vlm.language_model.config, "sliding_window", None)
        if window and positions.max() >= window:
            seen = [run.positions() for run in self.runs]
            padded = torch.nn.utils.rnn.pad_sequence(seen, batch_first=True)
            others["behind"] = (padded.gather(1, lengths[:, None].cpu()) - padded).to(device)
        token_ids = torch.tensor([run.token_ids[-1] for run in self.runs], device=device)
        self.hidden = self.vlm.language_model(
            inputs_embeds=self.vlm.model.get_input_embeddings()(token_ids)[:, None],
            attention_mask=(columns <= lengths[:, None])[:, None, None],
            position_ids=positions[..., None].to(device),
            past_key_values=Cache(layers=list(self.layers)),
            use_cache=True,
            **others,
        ).last_hidden_state[:, -1]

    def _make_room(self) -> None:
        for layer in self.layers:
            layer.make_room(len(self.runs), max(run.length for run in self.runs))


class _Buffer(DynamicLayer):
    """Keys and values [rows, heads, columns, width], with room so that few are copied.

    Of a row the first `lengths` columns are taken.
    """

    keys: Tensor
    values: Tensor
    lengths: Tensor
    longest: int

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values = keys[:, :, :0], values[:, :, :0]

    def make_room(self, rows: int, columns: int) -> None:
        """Grow to so many rows and columns, and some more."""
        missing = max(0, rows - self.keys.shape[0])
        narrow = max(0, columns - self.keys.shape[2])
        if missing or narrow:
            padding = (0, 0, 0, narrow and narrow + max(32, columns // 4), 0, 0, 0, missing)
            self.keys = torch.nn.functional.pad(self.keys, padding)
            self.values = torch.nn.functional.pad(self.values, padding)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Add the states of a token in each row; return those of all tokens so far."""
        count, end = len(key_states), self.longest + 1
        rows = torch.arange(count, device=key_states.device)
        self.keys[rows, :, self.lengths] = key_states[:, :, 0]
        self.values[rows, :, self.lengths] = value_states[:, :, 0]
        return self.keys[:count, :, :end], self.values[:count, :, :end]

    def get_seq_length(self) -> int:
        """Return how many tokens the longest row has so far."""
        return self.longest
