"""From the verdicts of a scorer to its metrics, without the core that resamples them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmpref.scoring.verdicts import Scorer


def values(scorer: Scorer, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Every metric of `scorer` over the verdicts `rows`."""
    table = pd.DataFrame(rows)
    numbers = table.select_dtypes("number").fillna(0)
    # One after the other, not pairwise as NumPy's sum: that decides the last digit at halves.
    sums = {name: np.add.accumulate(numbers[name].to_numpy(float))[-1:] for name in numbers}
    metrics = scorer.metrics(set(table.columns))
    return {name: float(metric.compute(sums)[0]) for name, metric in metrics.items()}
