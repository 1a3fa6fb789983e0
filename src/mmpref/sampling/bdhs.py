"""Bias-driven hallucination sampling: rejected answers that a model makes up without looking.

Attention variant of Algorithm 1 in arXiv 2407.02477. Nearly all image tokens are hidden, every
sentence of the chosen answer is cut at a random word, and the model completes each from the true
text before it. An answer that means the same as the chosen one is drawn anew, with another mask and
other cuts; the last try has no guidance by the chosen answer and counts whatever it says.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmpref.errors import InputError
from mmpref.fingerprint import fingerprint
from mmpref.journal import Journal
from mmpref.language.similarity import Similarity
from mmpref.models import Prompt, VisionLanguageModel
from mmpref.progress import track
from mmpref.randomness import generator
from mmpref.records.images import open_image
from mmpref.records.rows import Pair, shard_of
from mmpref.sampling.decoding import Completion, Job, Request, Sampler
from mmpref.sampling.masking import visible_tokens
from mmpref.sampling.shards import model_fingerprint
from mmpref.sampling.splitting import Opening, split
from mmpref.study.preferences import Bdhs

Attempt = dict[str, Any]
"""One try to sample a pair's rejected answer, as JSON holds it: see `attempt`."""


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
    `pairs` are read by number, a batch at a time.

    Batches that are done are kept in the file `journal`, with which an interrupted call goes on.
    The caller removes it once the result is stored. In float32, equal seeds give equal answers
    whatever the batch size, the number of shards or interruptions.

    Raises:
        InputError: a pair's prompt or chosen answer contains the model's image placeholder.
    """
    pairs = shard_of(pairs, shard, shards)
    # What does not change a result is not a reason to start again.
    relevant = settings.model_dump(exclude={"batch_size", "shards"})
    facts = {"settings": relevant, "seed": seed, "model": model_fingerprint(vlm)}
    content, ids = hashlib.sha256(fingerprint(facts).encode()), {}
    for number, pair in enumerate(pairs):
        ids[number] = pair.id
        content.update(json.dumps(_content(pair)).encode())
    sampler = Sampler(vlm, settings.temperature, settings.top_p)
    seen = Seen(vlm)
    last: dict[str, Attempt] = {name: {"iteration": 0, "accepted": False} for name in ids.values()}
    with Journal(journal, content.hexdigest()[:16]) as done:
        last.update((row["id"], row) for row in done.rows)
        for iteration in range(1, settings.iterations + 1):
            left = [
                number
                for number, name in ids.items()
                if not last[name]["accepted"] and last[name]["iteration"] < iteration
            ]
            batches = [
                left[first : first + settings.batch_size]
                for first in range(0, len(left), settings.batch_size)
            ]
            if not batches:
                continue
            label = f"BDHS iteration {iteration}, {len(left)} answers in batches"
            for batch in track(batches, label, total=len(batches)):
                rows = attempt(
                    sampler,
                    similarity,
                    [pairs[number] for number in batch],
                    settings,
                    seed,
                    iteration,
                    seen,
                )
                done.append(rows)
                last.update((row["id"], row) for row in rows)
    return (_with_rejected(pairs[number], last[name]) for number, name in ids.items())


class Seen:
    """Prompts with their image features, which are the same at every try: kept while they fit."""

    def __init__(self, vlm: VisionLanguageModel) -> None:
        self.vlm = vlm
        self.kept: dict[str, tuple[Prompt, Tensor]] = {}
        self.bytes = 0

    def __call__(self, pairs: Sequence[Pair]) -> list[tuple[Prompt, Tensor]]:
        """Return prompt and image features [image tokens, H] of each pair."""
        new = {pair.id: self._prompt(pair) for pair in pairs if pair.id not in self.kept}
        with torch.no_grad():
            features = self.vlm.image_features(list(new.values())) if new else []
        found = dict(zip(new, zip(new.values(), features, strict=True), strict=True))
        for name, (prompt, states) in found.items():
            if self.bytes + states.nbytes <= SEEN_BYTES:
                # Without the pixels, and apart from the features of the rest of the batch.
                pixels = {name: own for name, own in prompt.pixels.items() if "values" not in name}
                lean = Prompt(prompt.input_ids, prompt.is_image, pixels)
                self.kept[name] = lean, states.clone()
                self.bytes += states.nbytes
        return [found[pair.id] if pair.id in found else self.kept[pair.id] for pair in pairs]

    def _prompt(self, pair: Pair) -> Prompt:
        try:
            images = [open_image(data) for data in pair.images]
            return self.vlm.processor.encode_prompt(pair.prompt, images)
        except InputError as error:
            raise InputError(f"pair {pair.id}: {error}") from error


def attempt(
    sampler: Sampler,
    similarity: Similarity,
    pairs: Sequence[Pair],
    settings: Bdhs,
    seed: int,
    iteration: int,
    seen: "Seen | None" = None,
) -> list[Attempt]:
    """Try once to sample a rejected answer for each pair.

    Fields of an attempt:

    - `id`, `iteration` (from 1), `text`, `similarity` to the chosen answer;
    - `accepted`: whether the sampling of this pair ends here;
    - `free`: sampled without guidance, which is so in the last of several iterations;
    - `visible`, `image_tokens`: how many image tokens the model saw, of how many; the mask is
      `visible_tokens(prompt, mask_ratio, generator(seed, "bdhs-mask", id, iteration))`;
    - `unfinished`: whether a completion ran into the limit of tokens, which is `max_new_tokens`
      for a sentence, and that plus twice the length of the chosen answer for a free answer;
    - `sentences`: for each its `kept` first part, its `completed` second part and whether its yes
      or no was `swapped`; empty for a free answer.
    """
    vlm = sampler.vlm
    free = iteration == settings.iterations > 1
    jobs: list[Job] = []
    openings: list[list[Opening]] = []
    looked = (seen or Seen(vlm))(pairs)
    for number, (pair, (prompt, features)) in enumerate(zip(pairs, looked, strict=True)):
        try:
            length = len(vlm.processor.encode_answer(pair.chosen))
        except InputError as error:
            raise InputError(f"pair {pair.id}: {error}") from error
        mask_draws = generator(seed, "bdhs-mask", pair.id, iteration)
        visible = visible_tokens(prompt, settings.mask_ratio, mask_draws)
        limit = 2 * length + settings.max_new_tokens if free else settings.max_new_tokens
        if free:
            openings.append([])
            requests = [Request([], _uniforms(seed, pair, iteration, 0, limit))]
        else:
            split_draws = generator(seed, "bdhs-split", pair.id, iteration)
            openings.append(split(vlm.processor.tokenizer, pair.chosen, split_draws))
            requests = [
                Request(opening.context, _uniforms(seed, pair, iteration, k, limit), opening.begin)
                for k, opening in enumerate(openings[-1])
            ]
        jobs.append(Job(number, prompt, requests, visible, features))
    done = dict(sampler.complete(jobs))
    completions = [done[number] for number in range(len(pairs))]
    texts = [
        row[0].text if free else _joined(kept, row)
        for kept, row in zip(openings, completions, strict=True)
    ]
    scores = similarity(texts, [pair.chosen for pair in pairs])
    return [
        {
            "id": pair.id,
            "iteration": iteration,
            "text": text,
            "similarity": score,
            "accepted": iteration == settings.iterations
            or (score < settings.similarity_threshold and _differs(text, pair.chosen)),
            "free": free,
            "visible": int(job.visible[job.prompt.is_image].sum()),
            "image_tokens": int(job.prompt.is_image.sum()),
            "unfinished": any(completion.end == "limit" for completion in row),
            "sentences": [
                {"kept": opening.text, "completed": completion.text, "swapped": opening.swapped}
                for opening, completion in zip(kept, row, strict=not free)
            ],
        }
        for pair, job, text, score, kept, row in zip(
            pairs, jobs, texts, scores, openings, completions, strict=True
        )
    ]


def _uniforms(seed: int, pair: Pair, iteration: int, sentence: int, count: int) -> np.ndarray:
    return generator(seed, "bdhs-sample", pair.id, iteration, sentence).random(count)


def _joined(openings: Sequence[Opening], completions: Sequence[Completion]) -> str:
    """Return the whole answer; between sentences stands what stood there in the chosen answer."""
    parts = []
    for opening, completion in zip(openings, completions, strict=True):
        # What completes nothing is a whole sentence: the space before it is there already.
        completed = completion.text if opening.text else completion.text.lstrip()
        parts.append(opening.before + opening.text + completed)
    return "".join(parts).strip()


def _differs(text: str, chosen: str) -> bool:
    """Return whether a text can stand as rejected answer beside the chosen one."""
    return bool(text) and text.split() != chosen.split()


def _with_rejected(pair: Pair, row: Attempt) -> Pair:
    record = {name: value for name, value in row.items() if name not in ("id", "text", "accepted")}
    return replace(pair, rejected=row["text"], meta={**pair.meta, "bdhs": record})


def _content(pair: Pair) -> list[Any]:
    return [
        pair.id,
        [hashlib.sha256(image).hexdigest() for image in pair.images],
        pair.prompt,
        pair.chosen,
    ]
