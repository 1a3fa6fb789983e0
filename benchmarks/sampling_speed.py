"""Greedy answers against transformers' `generate`, in CPU time of one thread.

Prints, for greedy answers of a random model, the CPU seconds of the project's sampler and of
`generate` in left-padded batches, both sides in turns, after checking that the answers are equal.

    PYTHONPATH=src python benchmarks/sampling_speed.py
"""

import statistics
import time

import numpy as np
import torch
from models import examples, model

from mmpref.models import Prompt, VisionLanguageModel
from mmpref.models.family import join_pixels
from mmpref.sampling.decoding import Job, Request, Sampler

ANSWERS, TOKENS, BATCH, REPETITIONS = 8, 32, 4, 3


def generated(vlm: VisionLanguageModel, prompts: list[Prompt]) -> list[list[int]]:
    """Return the tokens of transformers' greedy answers, their end excluded."""
    eos = vlm.processor.eos_token_id
    length = max(map(len, prompts))
    ids = torch.full((len(prompts), length), eos)
    seen = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = prompt.input_ids
        seen[row, length - len(prompt) :] = 1
    rows = vlm.model.generate(
        input_ids=ids,
        attention_mask=seen,
        **join_pixels(prompts, vlm.device, vlm.model.dtype),
        do_sample=False,
        max_new_tokens=TOKENS,
        suppress_tokens=vlm.processor.unsampled_token_ids,
        eos_token_id=eos,
        pad_token_id=eos,
    )[:, length:].tolist()
    return [row[: row.index(eos)] if eos in row else row for row in rows]


def main() -> None:
    """Compare the two."""
    torch.set_num_threads(1)
    vlm = model(256, 4, 4096, torch.float32)
    lengths = [20 + 7 * (i % 5) for i in range(ANSWERS)]
    batch = examples(vlm, 1, lengths, [(4, 4)] * ANSWERS)
    prompts = [example.prompts["original"] for example in batch]
    sampler = Sampler(vlm, temperature=0, top_p=1)

    def ours() -> list[list[int]]:
        jobs = (
            Job(i, one, [Request([], np.zeros(TOKENS))], torch.ones(len(one), dtype=torch.bool))
            for i, one in enumerate(prompts)
        )
        done = dict(sampler.complete(jobs, BATCH))
        return [done[i][0].token_ids for i in range(ANSWERS)]

    def peer() -> list[list[int]]:
        batches = [prompts[first : first + BATCH] for first in range(0, ANSWERS, BATCH)]
        return [row for part in batches for row in generated(vlm, part)]

    assert ours() == peer()
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(REPETITIONS):
        for name, side in (("ours", ours), ("peer", peer)):
            start = time.process_time()
            side()
            times[name].append(time.process_time() - start)
    ours_s, peer_s = (statistics.median(times[name]) for name in ("ours", "peer"))
    print(
        f"greedy answers: generate {peer_s:.2f} s, sampler {ours_s:.2f} s, {peer_s / ours_s:.2f}x"
    )


if __name__ == "__main__":
    main()
