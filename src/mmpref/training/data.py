"""From preference pairs to what a training step eats, in an order that belongs to the run."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch.utils.data import Dataset

from mmpref.errors import InputError
from mmpref.logprobs.degradation import degraded_images
from mmpref.logprobs.encoding import encode
from mmpref.logprobs.forward import Example
from mmpref.logprobs.reference import ReferenceLogProbabilities
from mmpref.logprobs.views import View
from mmpref.models import Prompt, VisionLanguageModel
from mmpref.randomness import generator
from mmpref.records.images import open_image
from mmpref.records.rows import Pair

CACHE_BYTES = 10**9
"""Encoded originals kept in memory, per process."""


@dataclass(frozen=True)
class Slot:
    """A pair's turn: its place in the file, and the epoch, which decides its degraded image."""

    index: int
    epoch: int


class Order:
    """Which pairs each optimiser step sees: all pairs in a new order each epoch, end to end.

    An epoch's order depends on the run's seed and the epoch alone. A batch may reach into the next
    epoch, so every batch is full; what is left after the last epoch, less than a batch, is dropped.
    """

    def __init__(self, pairs: Sequence[Pair], epochs: int, batch_size: int, seed: int) -> None:
        if len(pairs) * epochs < batch_size:
            raise InputError(
                f"{len(pairs)} pairs in {epochs} epochs do not fill a batch of {batch_size}: "
                "lower training.batch_size or raise training.epochs"
            )
        self.slots = [
            Slot(int(index), epoch)
            for epoch in range(epochs)
            for index in generator(seed, "data-order", epoch).permutation(len(pairs))
        ]
        self.lengths = [len(pair.chosen) + len(pair.rejected) for pair in pairs]
        self.batch_size = batch_size

    @property
    def steps(self) -> int:
        """How many optimiser steps there are."""
        return len(self.slots) // self.batch_size

    def batch(self, step: int) -> list[Slot]:
        """Return the pairs of a step (from 0), short answers first, for less padding."""
        slots = self.slots[step * self.batch_size : (step + 1) * self.batch_size]
        return sorted(slots, key=lambda slot: self.lengths[slot.index])

    def micro_batches(
        self, micro_batch_size: int, rank: int, processes: int, start: int
    ) -> list[list[Slot]]:
        """Return a process's passes, in order, of all steps from `start` on.

        The processes share each step's batch, whatever their number and the size of a pass.
        """
        return [
            batch[first : first + micro_batch_size]
            for batch in map(self.batch, range(start, self.steps))
            for first in range(
                rank * micro_batch_size, self.batch_size, micro_batch_size * processes
            )
        ]


@dataclass(frozen=True)
class Scored:
    """An encoded pair with the reference's log-probability of every view."""

    example: Example
    reference: dict[View, float]


class PairDataset(Dataset[Scored]):
    """Encodes a pair when its turn comes; what is the same in every epoch is kept if it fits."""

    def __init__(
        self,
        vlm: VisionLanguageModel,
        pairs: Sequence[Pair],
        reference: ReferenceLogProbabilities,
        views: Sequence[View],
    ) -> None:
        self.vlm = vlm
        self.pairs = pairs
        self.reference = reference
        self.views = views
        self.cache: dict[int, Example] = {}
        self.cached_bytes = 0

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, slot: Slot) -> Scored:
        pair = self.pairs[slot.index]
        example = self._original(slot.index)
        how = self.reference.degradation
        if how:
            images = degraded_images(how.kind, pair, self.pairs, how.seed, slot.epoch)
            prompts = {
                **example.prompts,
                **encode(self.vlm.processor, pair, {how.kind: images}).prompts,
            }
            example = Example(pair.id, prompts, example.answers)
        reference = {view: self.reference.of(pair.id, view, slot.epoch) for view in self.views}
        return Scored(example, reference)

    def _original(self, index: int) -> Example:
        if index in self.cache:
            return self.cache[index]
        pair = self.pairs[index]
        example = encode(
            self.vlm.processor, pair, {"original": [open_image(data) for data in pair.images]}
        )
        size = _bytes(example.prompts["original"])
        if self.cached_bytes + size <= CACHE_BYTES:
            self.cache[index] = example
            self.cached_bytes += size
        return example


def _bytes(prompt: Prompt) -> int:
    tensors = [prompt.input_ids, *prompt.pixels.values()]
    return sum(tensor.nbytes for tensor in tensors)


def unchanged(batch: list[Scored]) -> list[Scored]:
    """Return the batch as it is: examples are of different lengths, the forward pads them."""
    return batch
