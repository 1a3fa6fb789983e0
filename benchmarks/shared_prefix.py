"""How much faster a DPO step is when both answers share the image and the prompt.

Prints the time of forward and backward with one sequence per answer, with the shared prefix, and
their ratio, medians over interleaved repetitions in one process. For a quiet machine:

    PYTHONPATH=src python benchmarks/shared_prefix.py
"""

import statistics
import time

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from mmpref.logprobs.forward import Example, log_probabilities
from mmpref.models import Prompt, VisionLanguageModel
from mmpref.objectives import DPO

IMAGE_TOKENS, PROMPT, ANSWERS, PAIRS, REPETITIONS = 576, 60, (200, 170), 2, 5


def model() -> VisionLanguageModel:
    text = LlamaConfig(
        vocab_size=4096,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
    )
    vision = CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=6,
        image_size=336,
        patch_size=14,
    )
    config = LlavaConfig(text_config=text, vision_config=vision, image_token_index=4095)
    llava = LlavaForConditionalGeneration(config).requires_grad_(False)
    # What LoRA makes of a step: no gradients of the base weights but through all of its layers.
    llava.get_input_embeddings().weight.requires_grad_(True)
    return VisionLanguageModel(llava, processor=None)


def examples() -> list[Example]:
    made = []
    for i in range(PAIRS):
        ids = torch.cat([torch.full((IMAGE_TOKENS,), 4095), torch.randint(4000, (PROMPT,))])
        prompt = Prompt(ids, ids == 4095, {"pixel_values": torch.randn(1, 3, 336, 336)})
        chosen, rejected = (torch.randint(4000, (length,)) for length in ANSWERS)
        made.append(Example(str(i), {"original": prompt}, {"chosen": chosen, "rejected": rejected}))
    return made


def step(vlm: VisionLanguageModel, batch: list[Example], shared: bool) -> float:
    start = time.perf_counter()
    if shared:
        logps = log_probabilities(vlm, batch, ("chosen", "rejected"))
    else:
        logps = {
            view: log_probabilities(vlm, batch, (view,))[view] for view in ("chosen", "rejected")
        }
    reference = {view: logp.detach() for view, logp in logps.items()}
    DPO()(logps, reference).losses.mean().backward()
    return time.perf_counter() - start


def main() -> None:
    torch.manual_seed(0)
    vlm, batch = model(), examples()
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(REPETITIONS + 1):
        for shared in times:
            times[shared].append(step(vlm, batch, shared))
    plain, together = (statistics.median(times[shared][1:]) for shared in (False, True))
    print(f"one sequence per answer {plain:.2f} s, shared prefix {together:.2f} s")
    print(f"{plain / together:.2f} times as fast")


if __name__ == "__main__":
    main()
