"""Metrics as functions of column sums, and their bootstrap intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmpref.errors import InputError
from mmpref.randomness import generator

Array = NDArray[np.float64]
Sums = Mapping[str, Array]
Better = Literal["lower", "higher"] | None

READINGS = {
    "official": "what the benchmark's own scorer prints, its quirks included",
    "strict": "what the metric says it measures; what cannot be parsed is not guessed",
}
"""The parts of metrics with two readings, in words."""

REPLICATES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Metric:
    """A number about a set of responses that follows from sums over them.

    `compute` maps the sums of the verdict columns (arrays of one shape: the responses as they are,
    or many resamples of them) to an array of that shape; where it is undefined (0/0) it is NaN.
    """

    compute: Callable[[Sums], Array]
    better: Better
    meaning: str


class Estimate(NamedTuple):
    """A value with its 95 % interval; NaN where the metric is undefined."""

    value: float
    low: float
    high: float


def ratio(numerator: Array, denominator: Array) -> Array:
    """Return `numerator / denominator`, NaN where the denominator is 0."""
    quotient = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=np.asarray(denominator) != 0)
    return quotient


def share(part: str, of: str, better: Better, meaning: str) -> Metric:
    """Return the sum of the column `part` divided by that of the column `of`."""
    return Metric(lambda sums: ratio(sums[part], sums[of]), better, meaning)


def printed(values: Array, digits: int) -> Array:
    """Return `values` rounded as Python's `round` and `%f` round them, for a scorer that does so.

    NumPy multiplies before it rounds, and so sees halves where there are none: 0.15 becomes 0.2,
    where Python prints 0.1.
    """
    return np.vectorize(lambda value: round(float(value), digits), otypes=[np.float64])(values)


def bootstrap(
    tables: Sequence[pd.DataFrame],
    metrics: Mapping[str, Metric],
    seed: int,
    run: str,
    replicates: int = REPLICATES,
) -> dict[str, Array]:
    """Return each metric's value, then its bootstrap replicates; shape (1 + replicates,).

    `tables` holds the verdicts of one run on one benchmark, one table per training seed; a value
    is the mean over seeds. A replicate resamples the items and the seeds, both with replacement
    (the pigeonhole bootstrap; Owen 2007, Annals of Applied Statistics 1:2):

    - Items are drawn by image: questions about one image stand and fall together. The draw
      depends on `seed` and the number of images alone, so every training seed and every run sees
      the same items, and differences of replicates between two runs are paired differences.
    - Of S seeds, S - 1 are drawn, for the variance of the mean of S draws would be too small by
      (S - 1) / S (Rao and Wu 1988, JASA 83). With one seed the interval says nothing about
      training noise.

    Raises InputError when the tables are not about the same items in the same order.
    """
    check_same_items(tables, run)
    numbers = tables[0].select_dtypes("number").columns
    columns = [name for name in numbers if all(name in table for table in tables)]
    # In order of first appearance: (seeds, images, columns).
    by_image = [table.groupby("image", sort=False)[columns].sum() for table in tables]
    counts = np.stack([sums.to_numpy(np.float64) for sums in by_image])
    # Item by item, as official scorers add: with halves and tenths the last digit may depend on it.
    plain = np.stack([np.add.accumulate(table[columns].to_numpy(float))[-1] for table in tables])
    resampled = _resampled_sums(counts, generator(seed, "bootstrap", "items"), replicates)
    sums = np.concatenate([plain[:, None], resampled], axis=1)
    seeds = len(tables)
    weights = np.full((seeds, 1 + replicates), 1 / seeds)
    if seeds > 1:
        draw = generator(seed, "bootstrap", "seeds", run, seeds)
        times = draw.multinomial(seeds - 1, weights[:, 0], size=replicates)
        weights[:, 1:] = times.T / (seeds - 1)
    by_column = {name: sums[:, :, index] for index, name in enumerate(columns)}
    values = {}
    for name, metric in metrics.items():
        per_seed = metric.compute(by_column)
        # A seed that was not drawn must not spoil the mean with its NaN (0 * NaN is NaN).
        values[name] = np.where(weights > 0, weights * per_seed, 0.0).sum(0)
    return values


def estimate(values: Array) -> Estimate:
    """Return the value and 95 % percentile interval of what `bootstrap` returns for a metric.

    A difference of two runs' arrays is summed up the same way. Replicates in which the metric is
    undefined are left out.
    """
    replicates = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or not replicates.size:
        return Estimate(float(values[0]), np.nan, np.nan)
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values[0]), float(low), float(high))


def check_same_items(tables: Sequence[pd.DataFrame], what: str) -> None:
    """Raise InputError when verdict tables are not about the same items in the same order."""
    first = tables[0]
    for table in tables[1:]:
        if not first["id"].equals(table["id"]) or not first["image"].equals(table["image"]):
            raise InputError(
                f"{what}: scores are about different items ({len(first)} and {len(table)} of them);"
                " score every run and seed on the same version of the benchmark"
            )


def _resampled_sums(counts: Array, draw: np.random.Generator, replicates: int) -> Array:
    """Map (seeds, images, columns) to (seeds, replicates, columns)."""
    images = counts.shape[1]
    blocks = []
    # In blocks of 100, so that 15,000 items need megabytes, not gigabytes.
    for start in range(0, replicates, 100):
        size = min(100, replicates - start)
        drawn = draw.integers(images, size=(size, images)) + images * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * images).reshape(size, images)
        blocks.append(times.astype(np.float64) @ counts)
    return np.concatenate(blocks, axis=1)
