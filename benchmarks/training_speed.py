"""A DPO or mDPO step against plain concatenation, in CPU time of one thread.

The peer gives every answer a sequence of its own (image, prompt, answer; one padded batch), scores
answer positions only, and runs the reference in the loop, as trainers do; mDPO's four forwards are
those of its released code. Both sides take turns; losses and LoRA gradients are compared before a
ratio is printed.

    PYTHONPATH=src python benchmarks/training_speed.py dpo-256x4-fp32
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence

import peft
import torch
from models import examples, model, with_lora
from torch import Tensor

from mmpref.logprobs.forward import Example, log_probabilities
from mmpref.logprobs.views import CHOSEN, REJECTED, LogProbs, View
from mmpref.models import VisionLanguageModel
from mmpref.models.family import join_pixels
from mmpref.objectives import DPO, MDPO, Objective

REPETITIONS = 5
SHAPES = {
    # width, layers, vocabulary, dtype, images per pair, prompt tokens, answers
    "256x4-fp32": (256, 4, 32000, torch.float32, 1, [60, 50], [(200, 170), (150, 220)]),
    "512x8-bf16": (512, 8, 4096, torch.bfloat16, 1, [60, 50], [(200, 170), (150, 220)]),
    # Without the instructions for bfloat16 (avx512_bf16) a processor takes minutes for that.
    "2880-fp32": (512, 8, 4096, torch.float32, 5, [60], [(200, 200)]),
    "2880-bf16": (512, 8, 4096, torch.bfloat16, 5, [60], [(200, 200)]),
}


def plain(
    vlm: VisionLanguageModel, batch: Sequence[Example], views: Sequence[View]
) -> dict[View, Tensor]:
    """Return log-probabilities [B] of views, each answer with image and prompt of its own."""
    rows = [
        (example.prompts[view.image], example.answers[view.answer])
        for view in views
        for example in batch
    ]
    ids = [torch.cat([prompt.input_ids, answer]) for prompt, answer in rows]
    prompts = [prompt for prompt, _ in rows]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
    seen = torch.nn.utils.rnn.pad_sequence([torch.ones_like(one) for one in ids], batch_first=True)
    hidden = vlm.model.base_model(
        input_ids=padded,
        attention_mask=seen,
        use_cache=False,
        **join_pixels(prompts, vlm.device, vlm.model.dtype),
    ).last_hidden_state
    answered = torch.cat(
        [
            states[len(prompt) - 1 : len(one) - 1]
            for states, prompt, one in zip(hidden, prompts, ids, strict=True)
        ]
    )
    targets = torch.cat([answer for _, answer in rows])
    logps = -torch.nn.functional.cross_entropy(
        vlm.lm_head(answered).float(), targets, reduction="none"
    )
    sums = torch.stack([part.sum() for part in logps.split([len(answer) for _, answer in rows])])
    return dict(zip(views, sums.split(len(batch)), strict=True))


def forwards(objective: Objective) -> list[tuple[View, ...]]:
    """Return the views of each of the peer's forwards: mDPO runs the degraded image apart."""
    apart = [(view,) for view in objective.views if view not in (CHOSEN, REJECTED)]
    return [(CHOSEN, REJECTED), *apart]


def wrapped(table: dict[View, Tensor]) -> dict[View, LogProbs]:
    return {view: LogProbs(logps, torch.ones_like(logps)) for view, logps in table.items()}


def step_of_peer(
    vlm: VisionLanguageModel,
    adapted: peft.PeftModel,
    batch: Sequence[Example],
    objective: Objective,
) -> Tensor:
    with torch.no_grad(), adapted.disable_adapter():
        reference: dict[View, Tensor] = {}
        for views in forwards(objective):
            reference |= plain(vlm, batch, views)
    policy: dict[View, Tensor] = {}
    for views in forwards(objective):
        policy |= plain(vlm, batch, views)
    return objective(wrapped(policy), wrapped(reference)).losses.mean()


def measured(vlm: VisionLanguageModel, loss: Callable[[], Tensor]) -> tuple[float, Tensor, Tensor]:
    """Return CPU ms of forward and backward, the loss and the gradients of LoRA."""
    vlm.model.zero_grad()
    start = time.process_time()
    value = loss()
    value.backward()
    spent = 1000 * (time.process_time() - start)
    gradients = [
        parameter.grad.flatten()
        for parameter in vlm.model.parameters()
        if parameter.grad is not None
    ]
    return spent, value.detach(), torch.cat(gradients).float()


def main(what: str) -> None:
    """Compare the two on `dpo-SHAPE` or `mdpo-SHAPE`."""
    objective = MDPO() if what.startswith("mdpo") else DPO()
    width, layers, vocabulary, dtype, *sizes = SHAPES[what.split("-", 1)[1]]
    torch.set_num_threads(1)
    vlm = model(width, layers, vocabulary, dtype)
    adapted = with_lora(vlm)
    batch = examples(vlm, *sizes)
    # As the reference stage stores it.
    with torch.no_grad(), adapted.disable_adapter():
        reference = log_probabilities(vlm, batch, objective.views)

    def ours() -> Tensor:
        return objective(log_probabilities(vlm, batch, objective.views), reference).losses.mean()

    def peer() -> Tensor:
        return step_of_peer(vlm, adapted, batch, objective)

    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(REPETITIONS + 1):
        spent, loss, gradient = measured(vlm, ours)
        times["ours"].append(spent)
        spent, expected, expected_gradient = measured(vlm, peer)
        times["peer"].append(spent)
    apart = ((gradient - expected_gradient).norm() / expected_gradient.norm()).item()
    assert apart < (1e-3 if dtype == torch.float32 else 0.05), apart
    before, after = (statistics.median(times[side][1:]) for side in ("peer", "ours"))
    print(
        f"{what}: plain concatenation {before:.0f} ms, shared prefix {after:.0f} ms, "
        f"{before / after:.2f} times as fast; loss {loss:.4f} and {expected:.4f}, "
        f"gradients {apart:.1e} apart"
    )


if __name__ == "__main__":
    main(sys.argv[1])
