"""From preference pairs to what a training step eats, in an order that belongs to the run."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch.utils.data import Dataset

from mmpref.errors import InputError
from mmpref.logprobs.examples import Examples, Turn
from mmpref.logprobs.forward import Example
from mmpref.logprobs.reference import Known, Reference
from mmpref.logprobs.views import View
from mmpref.randomness import generator


class Order:
    """Which pairs each optimiser step sees: all pairs in a new order each epoch, end to end.

    An epoch's order depends on the run's seed and the epoch alone. A batch may reach into the next
    epoch, so every batch is full; what is left after the last epoch, less than a batch, is dropped.
    `lengths` are those of the answers of all pairs, also of those that are `kept_out`.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        epochs: int,
        batch_size: int,
        seed: int,
        kept_out: Collection[int] = (),
    ) -> None:
        numbers = [number for number in range(len(lengths)) if number not in kept_out]
        if len(numbers) * epochs < batch_size:
            without = f" ({len(kept_out)} more are kept out)" if kept_out else ""
            raise InputError(
                f"{len(numbers)} pairs{without} in {epochs} epochs do not fill a batch of "
                f"{batch_size}: lower training.batch_size or raise training.epochs"
            )
        self.turns = [
            Turn(numbers[place], epoch)
            for epoch in range(epochs)
            for place in generator(seed, "data-order", epoch).permutation(len(numbers))
        ]
        self.pairs = len(numbers)
        self.lengths = lengths
        self.batch_size = batch_size
        self.steps = len(self.turns) // batch_size

    def batch(self, step: int) -> list[Turn]:
        """Return the pairs of a step (from 0), short answers first, for less padding."""
        turns = self.turns[step * self.batch_size : (step + 1) * self.batch_size]
        return sorted(turns, key=lambda turn: self.lengths[turn.number])

    def micro_batches(
        self, micro_batch_size: int, rank: int, processes: int, start: int
    ) -> list[list[Turn]]:
        """Return a process's passes, in order, of all steps from `start` on.

        The processes share each step's batch, whatever their number and the size of a pass.
        """
        mine = range(rank * micro_batch_size, self.batch_size, processes * micro_batch_size)
        return [
            batch[first : first + micro_batch_size]
            for batch in map(self.batch, range(start, self.steps))
            for first in mine
        ]


@dataclass(frozen=True)
class Scored:
    """An encoded pair with what the reference says of every view."""

    example: Example
    reference: dict[View, Known]


class PairDataset(Dataset[Scored]):
    """Encodes a pair when its turn comes, and looks up what the reference says of it."""

    def __init__(self, examples: Examples, reference: Reference, views: Sequence[View]) -> None:
        self.examples = examples
        self.reference = reference
        self.views = views

    def __getitem__(self, turn: Turn) -> Scored:
        example = self.examples[turn]
        known = {view: self.reference.of(turn, view) for view in self.views}
        for view, one in known.items():
            tokens = len(example.answers[view.answer])
            if one.tokens != tokens:
                raise InputError(
                    f"pair {example.id}: its answer {view.answer} has {tokens} tokens, and "
                    f"{one.tokens} in the reference; remove the reference's files and compute "
                    "them again"
                )
        return Scored(example, known)
