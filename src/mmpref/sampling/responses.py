"""Answers of a model to a benchmark's prompts."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from mmpref.errors import InputError
from mmpref.files import replacing
from mmpref.fingerprint import fingerprint
from mmpref.journal import Journal, key_of
from mmpref.models import ControlToken, Prompt, VisionLanguageModel
from mmpref.progress import say, track
from mmpref.records.images import open_image
from mmpref.records.items import Item, load_image
from mmpref.sampling.decoding import Job, Request, Sampler
from mmpref.sampling.shards import content_of, model_fingerprint


def answer(
    vlm: VisionLanguageModel,
    items: Sequence[Item],
    numbers: Iterable[int],
    *,
    max_new_tokens: int,
    batch_size: int,
) -> Iterator[tuple[int, str, bool]]:
    """Yield number, greedy answer, and whether it ended before `max_new_tokens`.

    Answers come in the order in which they are finished, `batch_size` are made side by side. One
    does not go on where the model can no longer look back; where the prompt alone is that long, it
    is empty.

    Raises:
        InputError: a prompt holds a control token of the model.
    """
    full: list[int] = []

    def jobs() -> Iterator[Job]:
        encoded = ((number, _prompt(vlm, items[number])) for number in numbers)
        # Those of about the same length together, as far as can be told without reading all.
        while some := list(islice(encoded, 4 * batch_size)):
            for number, prompt in sorted(some, key=lambda one: -len(one[1])):
                room = min(max_new_tokens, vlm.processor.context_length - len(prompt))
                if room < 1:
                    full.append(number)
                    continue
                request = Request([], np.zeros(room))
                yield Job(number, prompt, [request], torch.ones(len(prompt), dtype=torch.bool))

    sampler = Sampler(vlm, temperature=0, top_p=1)
    for number, (completion,) in sampler.complete(jobs(), batch_size):
        yield number, completion.text, completion.end == "answer"
    if full:
        say(f"{len(full)} prompts are longer than the model can look back: no answers to them")
    yield from ((number, "", False) for number in full)


def write_responses(
    path: Path,
    vlm: VisionLanguageModel,
    items: Sequence[Item],
    *,
    max_new_tokens: int,
    journal: Path,
    batch_size: int = 32,
    shard: int = 0,
    shards: int = 1,
    what: str = "answers",
) -> None:
    """Write a line `{id, prompt, response, ended, decoding}` for every item of a shard, in order.

    A shard is a range of items; the files of all shards, one after the other, are the answers.
    An interrupted call goes on with the answers in the file `journal`; the caller removes it.

    Raises:
        InputError: the journal is of another model, adapter or benchmark.
    """
    total = len(items)
    numbers = range(shard * total // shards, (shard + 1) * total // shards)
    content = hashlib.sha256()
    for number in numbers:
        item = items[number]
        content.update(content_of(item.id, map(load_image, item.images), item.prompt))
    facts = {"model": model_fingerprint(vlm), "items": content.hexdigest()}
    key = fingerprint({**facts, "max_new_tokens": max_new_tokens})
    if key_of(journal) not in (None, key):
        raise InputError(
            f"{journal}: holds answers of another model, adapter or benchmark; remove it to begin "
            "anew"
        )
    with Journal(journal, key) as done:
        rows = {row["number"]: row for row in done.rows}
        left = [number for number in numbers if number not in rows]
        answers = answer(vlm, items, left, max_new_tokens=max_new_tokens, batch_size=batch_size)
        new = (
            {"number": number, "response": response, "ended": ended}
            for number, response, ended in track(answers, what, total=len(left))
        )
        # Not one by one: each writing waits for the disk.
        while some := list(islice(new, batch_size)):
            done.append(some)
            rows.update((row["number"], row) for row in some)
    decoding = {"strategy": "greedy", "max_new_tokens": max_new_tokens}
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for number in numbers:
            item, row = items[number], rows[number]
            record = {"id": item.id, "prompt": item.prompt, "response": row["response"]}
            record |= {"ended": row["ended"], "decoding": decoding}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _prompt(vlm: VisionLanguageModel, item: Item) -> Prompt:
    images = [open_image(load_image(image)) for image in item.images]
    try:
        return vlm.processor.encode_prompt(item.prompt, images)
    except ControlToken as error:
        raise InputError(f"item {item.id}: {error}") from None
