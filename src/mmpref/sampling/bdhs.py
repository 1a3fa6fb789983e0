"""Bias-driven hallucination sampling: rejected answers that a model makes up without looking.

Algorithm 1 in arXiv 2407.02477: image tokens are hidden, or the pixels diffused, and sentences of
the chosen answer are cut at a random word and completed. An answer that means the same is drawn
anew; the last try has no guidance by the chosen answer and counts whatever it says.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmpref.journal import Journal
from mmpref.language.similarity import Similarity
from mmpref.logprobs.encoding import Unfit, encode
from mmpref.logprobs.views import ORIGINAL
from mmpref.models import Prompt, VisionLanguageModel
from mmpref.progress import track
from mmpref.randomness import generator
from mmpref.records.images import open_image
from mmpref.records.rows import Pair, shard_of
from mmpref.sampling.decoding import Completion, Job, Request, Sampler
from mmpref.sampling.noise import noisy
from mmpref.sampling.rejected import with_rejected
from mmpref.sampling.shards import shard_key
from mmpref.sampling.splitting import Opening, split
from mmpref.study.preferences import Bdhs

SEEN_BYTES = 10**9
"""Image features kept from one try to the next, per process."""


def sample_shard(
    vlm: VisionLanguageModel,
    similarity: Similarity,
    pairs: Sequence[Pair],
    settings: Bdhs,
    seed: int,
    journal: Path,
    shard: int = 0,
    shards: int = 1,
) -> Iterator[Pair]:
    """Return every `shards`-th pair from `shard` on, with a sampled rejected answer.

    What was sampled, and how, is in `meta["bdhs"]`: the fields of `attempt` but for the text. The
    rejected answer may be empty or equal the chosen one; `write_valid_pairs` sorts such pairs out.

    An interrupted call goes on with the batches in the file `journal`; the caller removes it. In
    float32, equal seeds give equal answers whatever the batch size, shards or interruptions.
    """
    pairs = shard_of(pairs, shard, shards)
    key, ids = shard_key(vlm, pairs, settings, seed), [pair.id for pair in pairs]
    sampler = Sampler(vlm, settings.temperature, settings.top_p)
    seen = Seen(vlm, vlm.processor.context_length - settings.max_new_tokens)
    last: dict[str, dict[str, Any]] = {name: {"accepted": False, "iteration": 0} for name in ids}
    with Journal(journal, key) as done:
        last.update((row["id"], row) for row in done.rows)
        for iteration in range(1, settings.iterations + 1):
            left = [
                number
                for number, name in enumerate(ids)
                if not last[name]["accepted"] and last[name]["iteration"] < iteration
            ]
            starts = range(0, len(left), settings.batch_size)
            label = f"BDHS iteration {iteration}, {len(left)} answers in batches"
            for start in track(starts, label, len(starts)) if left else ():
                batch = [pairs[number] for number in left[start : start + settings.batch_size]]
                rows = attempt(sampler, similarity, batch, settings, seed, iteration, seen)
                done.append(rows)
                last.update((row["id"], row) for row in rows)
    return (with_rejected(pairs[number], "bdhs", last[name]) for number, name in enumerate(ids))


def visible_tokens(prompt: Prompt, mask_ratio: float, rng: np.random.Generator) -> Tensor:
    """Return which tokens [P] of a prompt are visible: all text, and each image token by chance.

    An image token is visible when its draw from U(0, 1) is at least `mask_ratio` (Equation 6 of
    arXiv 2407.02477). All image tokens of all images count, those that end a line included.
    """
    visible = ~prompt.is_image
    draws = rng.random(int(prompt.is_image.sum()))
    visible[prompt.is_image] = torch.from_numpy(draws >= mask_ratio)
    return visible


class Seen:
    """What is the same at every try, read once: kept while it fits.

    Prompt and chosen answer may have `limit` tokens.
    """

    def __init__(self, vlm: VisionLanguageModel, limit: int) -> None:
        self.vlm = vlm
        self.limit = limit
        self.encoded: dict[str, tuple[Prompt, int]] = {}
        self.kept: dict[str, tuple[Prompt, int, Tensor]] = {}
        self.free_bytes = SEEN_BYTES

    def unfit(self, pair: Pair) -> dict[str, Any] | None:
        """Return why the model cannot be given a pair (`Unfit.facts`), if so."""
        try:
            if pair.id not in self.kept:
                self.encoded[pair.id] = self._encoded(pair)
        except Unfit as error:
            return error.facts
        return None

    def __call__(self, pairs: Sequence[Pair]) -> list[tuple[Prompt, int, Tensor]]:
        """Return of each pair: prompt, tokens of the chosen answer, features [image tokens, H]."""
        new = {pair.id: self._encoded(pair) for pair in pairs if pair.id not in self.kept}
        with torch.no_grad():
            features = self.vlm.image_features([prompt for prompt, _ in new.values()])
        found = {
            name: (*one, states) for (name, one), states in zip(new.items(), features, strict=True)
        }
        looked = [found.get(pair.id) or self.kept[pair.id] for pair in pairs]
        for name, (prompt, length, states) in found.items():
            if states.nbytes <= self.free_bytes:
                self.free_bytes -= states.nbytes
                # Without the pixels, and apart from the features of the rest of the batch.
                pixels = {name: own for name, own in prompt.pixels.items() if "values" not in name}
                lean = replace(prompt, pixels=pixels)
                self.kept[name] = lean, length, states.clone()
        return looked

    def through_noise(
        self, pairs: Sequence[Pair], step: int, rngs: Sequence[np.random.Generator]
    ) -> list[tuple[Prompt, int, Tensor]]:
        """Return the same of pairs whose pixels are diffused; nothing of it is kept."""
        encoded = [self._encoded(pair) for pair in pairs]
        prompts = [noisy(prompt, step, rng) for (prompt, _), rng in zip(encoded, rngs, strict=True)]
        with torch.no_grad():
            features = self.vlm.image_features(prompts)
        return [
            (prompt, length, states)
            for prompt, (_, length), states in zip(prompts, encoded, features, strict=True)
        ]

    def _encoded(self, pair: Pair) -> tuple[Prompt, int]:
        if pair.id in self.encoded:
            return self.encoded.pop(pair.id)
        images = {ORIGINAL: [open_image(data) for data in pair.images]}
        example = encode(self.vlm.processor, pair, images, ("chosen",), self.limit)
        return example.prompts[ORIGINAL], len(example.answers["chosen"])


def attempt(
    sampler: Sampler,
    similarity: Similarity,
    pairs: Sequence[Pair],
    settings: Bdhs,
    seed: int,
    iteration: int,
    seen: Seen,
) -> list[dict[str, Any]]:
    """Try once to sample a rejected answer for each pair; return a row of JSON for each.

    - `id`, `iteration` (from 1), `text`, `similarity` to the chosen answer;
    - `accepted`: whether the sampling of this pair ends here;
    - `free`: sampled without guidance, which is so in the last of several iterations;
    - `noise_step`: of the noise variant; its noise is `generator(seed, "bdhs-noise", id,
      iteration)`'s (`mmpref.sampling.noise`);
    - `visible`, `image_tokens`: how many image tokens the model saw, of how many; the mask is
      `visible_tokens(prompt, mask_ratio, generator(seed, "bdhs-mask", id, iteration))`;
    - `unfinished`: whether a completion ran into the limit of tokens, which is `max_new_tokens`
      for a sentence, and that plus twice the length of the chosen answer for a free answer;
    - `sentences`: for each its `kept` first part, its `completed` second part and whether its yes
      or no was `swapped`; empty for a free answer.

    The row of a pair that the model cannot be given has `id`, `iteration`, an empty `text`, and
    `unfit`, why.
    """
    reasons = {pair.id: seen.unfit(pair) for pair in pairs}
    rows: list[dict[str, Any]] = [
        {"id": name, "iteration": iteration, "text": "", "accepted": True, "unfit": reason}
        for name, reason in reasons.items()
        if reason
    ]
    pairs = [pair for pair in pairs if not reasons[pair.id]]
    if not pairs:
        return rows
    is_last = iteration == settings.iterations
    free = is_last and iteration > 1
    if settings.noise_step is None:
        looked = seen(pairs)
    else:
        rngs = [generator(seed, "bdhs-noise", pair.id, iteration) for pair in pairs]
        looked = seen.through_noise(pairs, settings.noise_step, rngs)
    jobs: list[Job] = []
    cut: list[list[Opening]] = []
    for number, (pair, (prompt, length, features)) in enumerate(zip(pairs, looked, strict=True)):
        draws = generator(seed, "bdhs-mask", pair.id, iteration)
        visible = visible_tokens(prompt, settings.mask_ratio, draws)
        room = sampler.vlm.processor.context_length - len(prompt)
        limit = min(settings.max_new_tokens + (2 * length if free else 0), room)
        if free:
            openings = [Opening([], None, "", "", False)]
        else:
            draws = generator(seed, "bdhs-split", pair.id, iteration)
            openings = split(sampler.vlm.processor.tokenizer, pair.chosen, draws)
        requests = []
        for k, opening in enumerate(openings):
            draws = generator(seed, "bdhs-sample", pair.id, iteration, k)
            requests.append(Request(opening.context, draws.random(limit), opening.begin))
        jobs.append(Job(number, prompt, requests, visible, features))
        cut.append(openings)
    done = dict(sampler.complete(jobs))
    texts = [_joined(openings, done[number]) for number, openings in enumerate(cut)]
    scores = similarity(texts, [pair.chosen for pair in pairs])
    for pair, job, openings, text, score in zip(pairs, jobs, cut, texts, scores, strict=True):
        differs = bool(text) and text.split() != pair.chosen.split()
        seen_of_image = job.visible[job.prompt.is_image]
        sentences = [
            {"kept": opening.text, "completed": completion.text, "swapped": opening.swapped}
            for opening, completion in zip(openings, done[job.key], strict=True)
        ]
        rows.append(
            {
                "id": pair.id,
                "iteration": iteration,
                "text": text,
                "similarity": score,
                "accepted": is_last or (score < settings.similarity_threshold and differs),
                "free": free,
                "noise_step": settings.noise_step,
                "visible": int(seen_of_image.sum()),
                "image_tokens": len(seen_of_image),
                "unfinished": any(completion.end == "limit" for completion in done[job.key]),
                "sentences": [] if free else sentences,
            }
        )
    return rows


def _joined(openings: Sequence[Opening], completions: Sequence[Completion]) -> str:
    """Return the whole answer; between sentences stands what stood there in the chosen answer."""
    parts = []
    for opening, completion in zip(openings, completions, strict=True):
        # What completes nothing is a whole sentence: the space before it is there already.
        completed = completion.text if opening.text else completion.text.lstrip()
        parts.append(opening.before + opening.text + completed)
    return "".join(parts).strip()
