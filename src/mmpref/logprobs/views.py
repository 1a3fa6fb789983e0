"""What is known of an answer under an image."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

ORIGINAL = "original"


class View(NamedTuple):
    """An answer under an image: what an objective asks the log-probability of.

    `answer` is a name in `Pair.answers` (`chosen`, `rejected`, `rejected_2`, ...), `image` is
    `original` or a way of degrading it (`mmpref.logprobs.degradation`).
    """

    answer: str
    image: str = ORIGINAL

    def __str__(self) -> str:
        return self.answer if self.image == ORIGINAL else f"{self.answer}@{self.image}"


CHOSEN = View("chosen")
REJECTED = View("rejected")


@dataclass(frozen=True)
class LogProbs:
    """log pi(answer | image, prompt) of a batch of B answers, in nats, float32.

    `sum` [B] is over the answer's tokens, its end of sequence included; `tokens` [B] is how many
    there are. `by_token` [B, R] holds each token's own where it was asked for, 0 behind the end.
    """

    sum: "Tensor"
    tokens: "Tensor"
    by_token: "Tensor | None" = None
