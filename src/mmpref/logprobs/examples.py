"""Pairs on their way to a model: read by number and encoded, in the processes of a loader."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from mmpref.errors import InputError
from mmpref.logprobs.degradation import degraded_images
from mmpref.logprobs.encoding import encode
from mmpref.logprobs.forward import Example
from mmpref.logprobs.views import ORIGINAL
from mmpref.models import Processor, Prompt
from mmpref.records.images import open_image
from mmpref.records.rows import Pair

T = TypeVar("T")

CACHE_BYTES = 10**9
"""Encoded originals kept in memory, on the whole machine."""


class Turn(NamedTuple):
    """A pair's turn: its place in the file, and the epoch, which decides its degraded images."""

    number: int
    epoch: int


class Examples(Dataset[Example]):
    """Encodes a pair when its turn comes; what is the same in every epoch is kept if it fits.

    `images` are the kinds of image that prompts are about (`View.image`), `answers` the answers
    that are encoded, `seeds` the study's seed for each degraded image.
    """

    def __init__(
        self,
        processor: Processor,
        pairs: Sequence[Pair],
        images: Sequence[str],
        answers: Sequence[str],
        seeds: Mapping[str, int],
        cache_bytes: int = 0,
    ) -> None:
        self.processor = processor
        self.pairs = pairs
        self.images = images
        self.answers = answers
        self.seeds = seeds
        self.cache: dict[int, Example] = {}
        self.free_bytes = cache_bytes

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, turn: Turn) -> Example:
        kept = self.cache.get(turn.number)
        if kept and set(self.images) == {ORIGINAL}:
            return kept
        pair = self.pairs[turn.number]
        prompts = dict(kept.prompts) if kept else {}
        example = self._encoded(
            pair, turn.epoch, [one for one in self.images if one not in prompts]
        )
        if kept is None and ORIGINAL in self.images:
            self._keep(turn.number, example)
        return Example(pair.id, prompts | example.prompts, example.answers)

    def _encoded(self, pair: Pair, epoch: int, images: Sequence[str]) -> Example:
        lacking = [name for name in self.answers if name not in pair.answers]
        if lacking:
            raise InputError(
                f"pair {pair.id}: has no answer {lacking[0]}, which the objective asks for; "
                "give the pair one, or choose another objective"
            )
        pictures = {
            image: [open_image(data) for data in pair.images]
            if image == ORIGINAL
            else degraded_images(image, pair, self.pairs, self.seeds[image], epoch)
            for image in images
        }
        return encode(self.processor, pair, pictures, self.answers)

    def _keep(self, number: int, example: Example) -> None:
        original = example.prompts[ORIGINAL]
        size = _bytes(original)
        if size <= self.free_bytes:
            self.free_bytes -= size
            self.cache[number] = Example(example.id, {ORIGINAL: original}, example.answers)


def _bytes(prompt: Prompt) -> int:
    tensors = [prompt.input_ids, *prompt.pixels.values()]
    return sum(tensor.nbytes for tensor in tensors)


def workers_for(device: torch.device) -> int:
    """Return how many processes encode for one that computes."""
    # On a CPU they would only take time from the model.
    return 2 if device.type == "cuda" else 0


def batches_of(dataset: Dataset[T], turns: Iterable[list[Turn]], workers: int) -> Iterator[list[T]]:
    """Yield what a dataset has at the turns of each batch, read ahead by so many processes.

    Raises:
        InputError: the dataset has raised it, in whatever process.
    """
    loader = DataLoader(
        _Careful(dataset), batch_sampler=turns, collate_fn=list, num_workers=workers
    )
    for batch in loader:
        for element in batch:
            if isinstance(element, InputError):
                raise element
        yield batch


class _Careful(Dataset[Any]):
    """Returns wrong input instead of raising it: a loader would wrap it in a page of traceback."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, turn: Turn) -> Any:
        try:
            return self.dataset[turn]
        except InputError as error:
            return error
