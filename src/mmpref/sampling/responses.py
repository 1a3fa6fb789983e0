"""Answers of a model to a benchmark's prompts."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmpref.files import replacing
from mmpref.models import VisionLanguageModel
from mmpref.models.family import Prompt, join_pixels
from mmpref.progress import track
from mmpref.records.images import open_image
from mmpref.records.items import Item, load_image


def answer(
    vlm: VisionLanguageModel,
    items: Sequence[Item],
    *,
    max_new_tokens: int,
    batch_size: int,
    what: str = "answers",
) -> Iterator[tuple[str, bool]]:
    """Yield the greedy answer to each item, and whether it ended before `max_new_tokens`."""
    batches = [items[start : start + batch_size] for start in range(0, len(items), batch_size)]
    for batch in track(batches, what, total=len(batches)):
        prompts = [
            vlm.processor.encode_prompt(
                item.prompt, [open_image(load_image(image)) for image in item.images]
            )
            for item in batch
        ]
        for token_ids in _generate(vlm, prompts, max_new_tokens):
            ended = vlm.processor.eos_token_id in token_ids
            end = token_ids.index(vlm.processor.eos_token_id) if ended else len(token_ids)
            yield vlm.processor.decode(token_ids[:end]).strip(), ended


@torch.no_grad()
def _generate(
    vlm: VisionLanguageModel, prompts: list[Prompt], max_new_tokens: int
) -> list[list[int]]:
    length = max(len(prompt) for prompt in prompts)
    # Answers begin in the same column, so prompts are padded on the left.
    input_ids = torch.full(
        (len(prompts), length), vlm.processor.tokenizer.pad_token_id or vlm.processor.eos_token_id
    )
    attention_mask = torch.zeros_like(input_ids)
    for i, prompt in enumerate(prompts):
        input_ids[i, length - len(prompt) :] = prompt.input_ids
        attention_mask[i, length - len(prompt) :] = 1
    generated: Tensor = vlm.model.generate(
        input_ids=input_ids.to(vlm.device),
        attention_mask=attention_mask.to(vlm.device),
        **join_pixels(prompts, vlm.device, vlm.model.dtype),
        do_sample=False,
        max_new_tokens=max_new_tokens,
        suppress_tokens=vlm.processor.unsampled_token_ids,
        eos_token_id=vlm.processor.eos_token_id,
        pad_token_id=vlm.processor.eos_token_id,
    )
    return generated[:, length:].tolist()


def write_responses(
    path: str | Path,
    vlm: VisionLanguageModel,
    items: Sequence[Item],
    *,
    max_new_tokens: int,
    batch_size: int = 32,
    what: str = "answers",
) -> None:
    """Write a line `{id, prompt, response, ended, decoding}` for every item, in their order."""
    decoding = {"strategy": "greedy", "max_new_tokens": max_new_tokens}
    answers = answer(vlm, items, max_new_tokens=max_new_tokens, batch_size=batch_size, what=what)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for item, (response, ended) in zip(items, answers, strict=True):
            record = {
                "id": item.id,
                "prompt": item.prompt,
                "response": response,
                "ended": ended,
                "decoding": decoding,
            }
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
