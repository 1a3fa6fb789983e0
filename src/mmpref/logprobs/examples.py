"""Pairs on their way to a model: read by number and encoded, in the processes of a loader."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from mmpref.errors import InputError
from mmpref.logprobs.degradation import degraded_images
from mmpref.logprobs.forward import Example
from mmpref.logprobs.views import ORIGINAL
from mmpref.models import Processor
from mmpref.records.images import open_image
from mmpref.records.rows import Pair

T = TypeVar("T")

CACHE_BYTES = 10**9
"""Encoded originals kept in memory, on the whole machine."""


class Turn(NamedTuple):
    """A pair's turn: its place in the file, and the epoch, which decides its degraded images."""

    number: int
    epoch: int


def encode(
    processor: Processor,
    pair: Pair,
    images: Mapping[str, Sequence[Image.Image]],
    answers: Collection[str],
) -> Example:
    """Return a pair as token ids and pixels, its prompt once for each entry of `images`.

    Raises InputError when the pair lacks one of `answers`, or is longer than the model can look
    back: a cut answer would have another log-probability.
    """
    for name in answers:
        if name not in pair.answers:
            raise InputError(
                f"pair {pair.id}: has no answer {name}, which the objective asks for; "
                "give the pair one, or choose another objective"
            )
    try:
        prompts = {
            name: processor.encode_prompt(pair.prompt, those) for name, those in images.items()
        }
        encoded = {name: processor.encode_answer(pair.answers[name]) for name in answers}
    except InputError as error:
        raise InputError(f"pair {pair.id}: {error}") from None
    longest = max(map(len, prompts.values())) + max(map(len, encoded.values()))
    if longest > processor.context_length:
        raise InputError(
            f"pair {pair.id}: image, prompt and answer are {longest} tokens, the model looks back "
            f"{processor.context_length}; remove the pair or shorten its texts"
        )
    return Example(pair.id, prompts, encoded)


@dataclass(eq=False)
class Examples(Dataset[Example]):
    """Encodes a pair when its turn comes; what is the same in every epoch is kept if it fits.

    `images` are the kinds of image that prompts are about (`View.image`), `seeds` the study's seed
    for each degraded one; `free_bytes` is how much may still be kept.
    """

    processor: Processor
    pairs: Sequence[Pair]
    images: Sequence[str]
    answers: Sequence[str]
    seeds: Mapping[str, int]
    free_bytes: int = 0
    cache: dict[int, Example] = field(default_factory=dict, init=False)

    def __getitem__(self, turn: Turn) -> Example:
        kept = self.cache.get(turn.number)
        if kept and set(self.images) == {ORIGINAL}:
            return kept
        pair = self.pairs[turn.number]
        prompts = kept.prompts if kept else {}
        pictures = {
            image: [open_image(data) for data in pair.images]
            if image == ORIGINAL
            else degraded_images(image, pair, self.pairs, self.seeds[image], turn.epoch)
            for image in self.images
            if image not in prompts
        }
        example = encode(self.processor, pair, pictures, self.answers)
        if kept is None and ORIGINAL in self.images:
            original = example.prompts[ORIGINAL]
            size = sum(tensor.nbytes for tensor in (original.input_ids, *original.pixels.values()))
            if size <= self.free_bytes:
                self.free_bytes -= size
                self.cache[turn.number] = Example(pair.id, {ORIGINAL: original}, example.answers)
        return Example(pair.id, prompts | example.prompts, example.answers)


def workers_for(device: torch.device) -> int:
    """Return how many processes encode for one that computes: none take time from a CPU's model."""
    return 2 if device.type == "cuda" else 0


def batches_of(dataset: Dataset[T], turns: Iterable[list[Turn]], workers: int) -> Iterator[list[T]]:
    """Yield what a dataset has at the turns of each batch, read ahead by so many processes.

    Raises InputError where the dataset does, in whatever process.
    """
    careful = _Careful(dataset)
    for batch in DataLoader(careful, batch_sampler=turns, collate_fn=list, num_workers=workers):
        for element in batch:
            if isinstance(element, InputError):
                raise element
        yield batch


@dataclass(eq=False)
class _Careful(Dataset[Any]):
    """Returns wrong input instead of raising it: a loader would wrap it in a page of traceback."""

    dataset: Dataset[Any]

    def __getitem__(self, turn: Turn) -> Any:
        try:
            return self.dataset[turn]
        except InputError as error:
            return error
