"""Pairs on their way to a model: read by number and encoded, in the processes of a loader."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from mmpref.errors import InputError
from mmpref.logprobs.degradation import degraded_images
from mmpref.logprobs.encoding import Unfit, encode
from mmpref.logprobs.forward import Example
from mmpref.logprobs.views import ORIGINAL
from mmpref.models import Processor
from mmpref.records.images import open_image
from mmpref.records.rows import Pair

T = TypeVar("T")

OTHER_IMAGE, NO_IMAGE = "other_image", "none"
"""The degraded images that do not have as many tokens as the pair's own."""

CACHE_BYTES = 10**9
"""Encoded originals kept in memory, on the whole machine."""


class Turn(NamedTuple):
    """A pair's turn: its place in the file, and the epoch, which decides its degraded images."""

    number: int
    epoch: int


@dataclass(eq=False)
class Examples(Dataset[Example]):
    """Encodes a pair when its turn comes; what is the same in every epoch is kept if it fits.

    `images` are the kinds of image that prompts are about (`View.image`), `seeds` the study's seed
    for each degraded one; `free_bytes` is how much may still be kept. A pair with more than
    `max_length` tokens, or than the model can look back, raises Unfit. All its answers count, and
    no image of another pair: whatever a run looks at, the same pairs are left.
    """

    processor: Processor
    pairs: Sequence[Pair]
    images: Sequence[str]
    answers: Sequence[str]
    seeds: Mapping[str, int]
    free_bytes: int = 0
    max_length: int | None = None
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
        try:
            example = self._encoded(pair, pictures)
        except Unfit:
            if OTHER_IMAGE not in pictures:
                raise
            # The image of another pair may be larger, and so have more tokens.
            sizes = [open_image(data).size for data in pair.images]
            others = zip(pictures[OTHER_IMAGE], sizes, strict=True)
            pictures[OTHER_IMAGE] = [image.resize(size) for image, size in others]
            example = self._encoded(pair, pictures)
        if kept is None and ORIGINAL in self.images:
            original = example.prompts[ORIGINAL]
            size = sum(tensor.nbytes for tensor in (original.input_ids, *original.pixels.values()))
            if size <= self.free_bytes:
                self.free_bytes -= size
                self.cache[turn.number] = Example(pair.id, {ORIGINAL: original}, example.answers)
        return Example(pair.id, prompts | example.prompts, example.answers)

    def _encoded(self, pair: Pair, pictures: Mapping[str, Sequence[Image.Image]]) -> Example:
        context = self.processor.context_length
        limit = min(context, self.max_length or context)
        answers = dict.fromkeys([*self.answers, *pair.answers])
        if set(self.images) == {NO_IMAGE}:
            pictures = {**pictures, ORIGINAL: [open_image(data) for data in pair.images]}
        example = encode(self.processor, pair, pictures, answers, limit)
        prompts = {name: example.prompts[name] for name in pictures if name in self.images}
        own = {name: example.answers[name] for name in self.answers}
        return Example(pair.id, prompts, own)


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
