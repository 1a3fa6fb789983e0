"""A merged model against its model and adapter: how much of the training survives the rounding.

In bfloat16 a weight keeps eight bits, so that a small change of a large weight is lost.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmpref.errors import InputError
from mmpref.files import replacing
from mmpref.logprobs.encoding import Unfit, encode
from mmpref.logprobs.forward import Example, log_probabilities
from mmpref.logprobs.views import ORIGINAL, View
from mmpref.models import VisionLanguageModel
from mmpref.models.adapter import with_saved_adapter
from mmpref.progress import say
from mmpref.records.images import open_image
from mmpref.records.pairs import Pairs
from mmpref.records.rows import Pair
from mmpref.sampling.decoding import Job, Request, Sampler

PAIRS = 8
MAX_NEW_TOKENS = 64
VIEWS = (View("chosen"), View("rejected"))


def compare_merged(
    output: Path,
    merged: str | Path,
    model: str | Path,
    adapter: str | Path,
    pairs: str | Path,
    dtype: torch.dtype,
) -> None:
    """Write how a merged model differs from the model with the adapter beside it, as JSON.

    On the first pairs of a file that the model can be given: greedy answers, and the mean and the
    largest absolute difference of a token's log-probability. What the adapter changes of the model
    says what that amounts to.

    Raises:
        InputError: a folder or the file of pairs is missing or damaged.
    """
    vlm = VisionLanguageModel.load(model, dtype)
    some = list(islice(_encoded(vlm, Pairs(pairs)), PAIRS))
    if not some:
        raise InputError(f"{pairs}: none of the pairs fits into the model; take other pairs")
    examples = [example for _, example in some]
    adapted = with_saved_adapter(vlm, adapter)
    with adapted.disable_adapter():
        base = _logps(vlm, examples)
    separate, answers = _logps(vlm, examples), _answers(vlm, examples)
    del vlm, adapted
    whole = VisionLanguageModel.load(merged, dtype)
    found, merged_answers = _logps(whole, examples), _answers(whole, examples)
    compared = [
        {"id": pair.id, "prompt": pair.prompt, "adapter": before, "merged": after}
        for (pair, _), before, after in zip(some, answers, merged_answers, strict=True)
    ]
    same = sum(before == after for before, after in zip(answers, merged_answers, strict=True))
    difference, change = _difference(found, separate), _difference(separate, base)
    result = {
        "dtype": str(dtype).removeprefix("torch."),
        "pairs": len(some),
        "tokens": len(found),
        "logp_difference": difference,
        "adapter_changes_logp_by": change,
        "same_answers": same,
        "answers": compared,
    }
    say(
        f"merged: {same} of {len(some)} greedy answers are the same; a token's log-probability "
        f"differs by {difference['mean']:.2g} on average, the adapter changes it by "
        f"{change['mean']:.2g}"
    )
    with replacing(output) as temporary:
        text = json.dumps(result, indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _encoded(vlm: VisionLanguageModel, pairs: Sequence[Pair]) -> Iterator[tuple[Pair, Example]]:
    answers = [view.answer for view in VIEWS]
    limit = vlm.processor.context_length
    for pair in pairs:
        images = {ORIGINAL: [open_image(image) for image in pair.images]}
        with suppress(Unfit):
            yield pair, encode(vlm.processor, pair, images, answers, limit)


@torch.no_grad()
def _logps(vlm: VisionLanguageModel, examples: Sequence[Example]) -> Tensor:
    """Return the log-probabilities of the tokens of all answers, one after the other."""
    logps: list[Tensor] = []
    for example in examples:
        found = log_probabilities(vlm, [example], VIEWS, by_token=True)
        for view in VIEWS:
            by_token = found[view].by_token
            assert by_token is not None
            logps.append(by_token[0].float().cpu())
    return torch.cat(logps)


def _answers(vlm: VisionLanguageModel, examples: Sequence[Example]) -> list[str]:
    request = Request([], np.zeros(MAX_NEW_TOKENS))
    prompts = [example.prompts[ORIGINAL] for example in examples]
    jobs = [
        Job(number, prompt, [request], torch.ones(len(prompt), dtype=torch.bool))
        for number, prompt in enumerate(prompts)
    ]
    done = dict(Sampler(vlm, temperature=0, top_p=1).complete(jobs))
    return [done[number][0].text for number in range(len(prompts))]


def _difference(one: Tensor, other: Tensor) -> dict[str, float]:
    distance = (one - other).abs()
    return {"mean": float(distance.mean()), "max": float(distance.max())}
