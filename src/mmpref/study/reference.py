"""Reference log-probabilities: how they are computed, and which ones the runs of a study need."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from mmpref.study.parts import Count, Part
from mmpref.study.runs import ORIGINAL, Run


class Reference(Part):
    """How the log-probabilities under the reference model are computed, before any training."""

    shards: Count = Field(1, description="parts that are computed apart, on a cluster at once")
    batch_size: Count = Field(16, description="pairs at a time")


class Stored(Part):
    """What a file of reference log-probabilities holds: answers of all pairs under one image."""

    image: str
    answers: Annotated[tuple[str, ...], Field(min_length=1)]
    by_token: bool = False
    epochs: Count = 1
    seed: int | None = None
    """The study's, which degraded images depend on; none for the original image."""
    max_length: int | None = None
    """Pairs with more tokens are kept out, as are those that the model cannot look back over."""


def stored_for(
    runs: Iterable[Run], model: str, preferences: str, image: str, seed: int
) -> Stored | None:
    """Return what the runs of a model on some preferences need under an image; None for nothing."""
    of_model = [run for run in runs if (run.model, run.preferences) == (model, preferences)]
    users = [run for run in of_model if image in images_of(run)]
    if not users:
        return None
    views = [view for run in users for view in run.views if view.image == image]
    return Stored(
        image=image,
        answers=tuple(sorted({view.answer for view in views})),
        by_token=any(run.by_token for run in users),
        epochs=1 if image == ORIGINAL else max(run.training.epochs for run in users),
        seed=None if image == ORIGINAL else seed,
        max_length=users[0].training.max_length,
    )


def images_of(run: Run) -> list[str]:
    """Return the images a run's objective looks at, in the order in which it names them."""
    return list(dict.fromkeys(view.image for view in run.views))
