"""Rejected answers by a distorted image, after POVID (arXiv 2402.11411): a baseline to BDHS.

The model reads the chosen answer under a noisy image, and at every token of it says which token it
would have expected; these, one after the other, are the rejected answer. It reads as nonsense where
one guess does not go on from the last. POVID draws it anew in every training step and takes its
log-probability after the chosen answer's words; here it is a text like any other, made once.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmpref.journal import Journal
from mmpref.language.similarity import Similarity
from mmpref.logprobs.attention import read
from mmpref.logprobs.encoding import Unfit, encode
from mmpref.logprobs.forward import CHUNK_VALUES
from mmpref.logprobs.layout import scoring_layout
from mmpref.logprobs.views import ORIGINAL
from mmpref.models import Prompt, VisionLanguageModel
from mmpref.progress import track
from mmpref.randomness import generator
from mmpref.records.images import open_image
from mmpref.records.rows import Pair, shard_of
from mmpref.sampling.noise import noisy
from mmpref.sampling.rejected import with_rejected
from mmpref.sampling.shards import shard_key
from mmpref.study.preferences import Distortion


def sample_shard(
    vlm: VisionLanguageModel,
    similarity: Similarity,
    pairs: Sequence[Pair],
    settings: Distortion,
    seed: int,
    journal: Path,
    shard: int = 0,
    shards: int = 1,
) -> Iterator[Pair]:
    """Return every `shards`-th pair from `shard` on, with the rejected answer of a noisy image.

    How it came to be is in `meta["distortion"]`: `noise_step`; `similarity` to the chosen answer;
    `tokens` of the chosen answer, with the one that ends it, and how many of them `changed`. The
    rejected answer may be empty or equal the chosen one; `write_valid_pairs` sorts such pairs out.

    An interrupted call goes on with the batches in the file `journal`; the caller removes it. In
    float32, equal seeds give equal answers whatever the batch size, shards or interruptions. Of a
    pair that the model cannot be given, `unfit` says why.
    """
    pairs = shard_of(pairs, shard, shards)
    with Journal(journal, shard_key(vlm, pairs, settings, seed)) as done:
        rows = {row["id"]: row for row in done.rows}
        left = pairs[len(rows) :]
        starts = range(0, len(left), settings.batch_size)
        for start in track(starts, f"{len(left)} answers in batches", len(starts)):
            batch = left[start : start + settings.batch_size]
            new = _distorted(vlm, similarity, batch, settings.noise_step, seed)
            done.append(new)
            rows.update((row["id"], row) for row in new)
    return (with_rejected(pair, "distortion", rows[pair.id]) for pair in pairs)


def _distorted(
    vlm: VisionLanguageModel, similarity: Similarity, pairs: Sequence[Pair], step: int, seed: int
) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    read_whole, prompts, answers = [], [], []
    for pair in pairs:
        images = {ORIGINAL: [open_image(data) for data in pair.images]}
        try:
            limit = vlm.processor.context_length
            example = encode(vlm.processor, pair, images, ("chosen",), limit)
        except Unfit as error:
            rows[pair.id] = {"id": pair.id, "text": "", "unfit": error.facts}
            continue
        read_whole.append(pair)
        draws = generator(seed, "distortion-noise", pair.id)
        prompts.append(noisy(example.prompts[ORIGINAL], step, draws))
        answers.append(example.answers["chosen"])
    if not read_whole:
        return list(rows.values())
    expected = expected_tokens(vlm, prompts, answers)
    ends = set(vlm.processor.stop_token_ids)
    texts = [
        vlm.processor.decode([token for token in tokens.tolist() if token not in ends]).strip()
        for tokens in expected
    ]
    scores = similarity(texts, [pair.chosen for pair in read_whole])
    rows |= {
        pair.id: {
            "id": pair.id,
            "text": text,
            "noise_step": step,
            "similarity": score,
            "tokens": len(answer),
            "changed": int((tokens != answer).sum()),
        }
        for pair, text, score, tokens, answer in zip(
            read_whole, texts, scores, expected, answers, strict=True
        )
    }
    return [rows[pair.id] for pair in pairs]


@torch.no_grad()
def expected_tokens(
    vlm: VisionLanguageModel, prompts: Sequence[Prompt], answers: Sequence[Tensor]
) -> list[Tensor]:
    """Return of each answer [R] the likeliest token ids [R] after the prompt and its tokens before.

    Tokens that no answer may hold (`Processor.unsampled_token_ids`) are not considered.
    """
    layout, predicted_at = scoring_layout(vlm.family, prompts, [[answer] for answer in answers])
    features = torch.cat(vlm.image_features(prompts))
    hidden = read(vlm, layout, features, use_cache=False)[predicted_at.to(vlm.device)]
    unsampled = torch.tensor(vlm.processor.unsampled_token_ids, device=vlm.device)
    size = max(1, CHUNK_VALUES // vlm.model.config.get_text_config().vocab_size)
    likeliest = [
        vlm.lm_head(states).float().index_fill(1, unsampled, -torch.inf).argmax(-1)
        for states in hidden.split(size)
    ]
    return list(torch.cat(likeliest).cpu().split([len(answer) for answer in answers]))
