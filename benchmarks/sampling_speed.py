"""The project's sampler against transformers' `generate`, in CPU time of one thread.

Two works on a random model: greedy answers in left-padded batches, and what BDHS does in one try:
six sentences of an answer completed with 5 % of the image tokens visible, for which `generate` is
called once a sentence. Both sides take turns, after a check that their tokens are equal.

    PYTHONPATH=src python benchmarks/sampling_speed.py
"""

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from models import examples, model

from mmpref.models import Prompt, VisionLanguageModel
from mmpref.models.family import join_pixels
from mmpref.sampling.bdhs import visible_tokens
from mmpref.sampling.decoding import Job, Request, Sampler

ANSWERS, TOKENS, BATCH, REPETITIONS = 8, 32, 4, 3
SENTENCES, SENTENCE_TOKENS, MASK_RATIO = 6, 24, 0.95


def generated(vlm: VisionLanguageModel, jobs: list[Job]) -> list[list[int]]:
    """Return the tokens of transformers' greedy completions, their end excluded.

    All jobs of a call have one request each; hidden tokens keep their positions.
    """
    eos = vlm.processor.eos_token_id
    contexts = [torch.tensor(job.requests[0].context, dtype=torch.long) for job in jobs]
    rows = [
        torch.cat([job.prompt.input_ids, context])
        for job, context in zip(jobs, contexts, strict=True)
    ]
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), eos)
    seen, positions = torch.zeros_like(ids), torch.zeros_like(ids)
    for number, (job, row) in enumerate(zip(jobs, rows, strict=True)):
        start, begin = length - len(row), length - len(row) + len(job.prompt)
        ids[number, start:], positions[number, start:] = row, torch.arange(len(row))
        seen[number, start:begin], seen[number, begin:] = job.visible, 1
    whole = vlm.model.generate(
        input_ids=ids,
        attention_mask=seen,
        position_ids=positions,
        **join_pixels([job.prompt for job in jobs], vlm.device, vlm.model.dtype),
        do_sample=False,
        max_new_tokens=len(jobs[0].requests[0].uniforms),
        suppress_tokens=vlm.processor.unsampled_token_ids,
        eos_token_id=eos,
        pad_token_id=eos,
    )
    found = whole[:, length:].tolist()
    return [row[: row.index(eos)] if eos in row else row for row in found]


def completed(sampler: Sampler, jobs: list[Job], rows: int | None = None) -> list[list[int]]:
    """Return the tokens of the project's completions, in the order of jobs and requests."""
    done = dict(sampler.complete(jobs, rows))
    return [completion.token_ids for job in jobs for completion in done[job.key]]


def answers(prompts: list[Prompt]) -> list[Job]:
    """Return an answer for each prompt."""
    nothing = [Request([], np.zeros(TOKENS))]
    return [
        Job(number, prompt, nothing, torch.ones(len(prompt), dtype=torch.bool))
        for number, prompt in enumerate(prompts)
    ]


def sentences(prompts: list[Prompt]) -> list[Job]:
    """Return for each prompt an answer whose sentences are to be completed, hardly seen."""
    jobs = []
    for number, prompt in enumerate(prompts):
        rng = np.random.default_rng(number)
        answer = rng.integers(250, size=SENTENCES * SENTENCE_TOKENS).tolist()
        requests = [
            Request(answer[: k * SENTENCE_TOKENS], np.zeros(SENTENCE_TOKENS))
            for k in range(SENTENCES)
        ]
        jobs.append(Job(number, prompt, requests, visible_tokens(prompt, MASK_RATIO, rng)))
    return jobs


def one_by_one(jobs: list[Job]) -> Iterator[list[Job]]:
    """Yield every request as a job of its own."""
    for job in jobs:
        for request in job.requests:
            yield [Job(job.key, job.prompt, [request], job.visible)]


def compare(name: str, ours: Callable[[], object], peer: Callable[[], object]) -> None:
    """Print CPU seconds of both sides and their ratio."""
    assert ours() == peer()
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(REPETITIONS):
        for side, run in (("ours", ours), ("peer", peer)):
            start = time.process_time()
            run()
            times[side].append(time.process_time() - start)
    ours_s, peer_s = (statistics.median(times[side]) for side in ("ours", "peer"))
    print(f"{name}: generate {peer_s:.2f} s, sampler {ours_s:.2f} s, {peer_s / ours_s:.2f}x")


def main() -> None:
    """Compare the two."""
    torch.set_num_threads(1)
    vlm = model(256, 4, 4096, torch.float32)
    lengths = [20 + 7 * (i % 5) for i in range(ANSWERS)]
    batch = examples(vlm, 1, lengths, [(4, 4)] * ANSWERS)
    prompts = [example.prompts["original"] for example in batch]
    sampler = Sampler(vlm, temperature=0, top_p=1)

    whole = answers(prompts)
    batches = [whole[first : first + BATCH] for first in range(0, ANSWERS, BATCH)]
    compare(
        "greedy answers",
        lambda: completed(sampler, whole, BATCH),
        lambda: [row for part in batches for row in generated(vlm, part)],
    )
    parts = sentences(prompts[:BATCH])
    compare(
        "BDHS, a sentence after the other",
        lambda: completed(sampler, parts),
        lambda: [row for part in one_by_one(parts) for row in generated(vlm, part)],
    )


if __name__ == "__main__":
    main()
