"""What a sampling run produced, in numbers."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from mmpref.language.mentions import find_mentions
from mmpref.records.rows import Pair


def statistics(pairs: Iterable[Pair]) -> dict[str, Any]:
    """Return statistics of all sampled pairs, the quarantined ones included.

    - `pairs`: how many; `iterations`: how many of them came from which iteration, as text;
    - `free`: how many were sampled without guidance, in the last iteration;
    - `same`, `empty`, `unfinished`: how many equal the chosen answer or say nothing, and so cannot
      be trained on, or ran into the limit of tokens;
    - `visible_share`: share of the image tokens that were visible;
    - `similarity`: a histogram, `counts` between `edges`;
    - `hallucinated_per_answer`: for the `answers` pairs whose meta has `objects` and `vocabulary`,
      the mean number of mentions of objects that are not in the image, `chosen` and `rejected`.
    """
    iterations: Counter[int] = Counter()
    sums: Counter[str] = Counter()
    scores: list[float] = []
    for pair in pairs:
        record = pair.meta["bdhs"]
        iterations[record["iteration"]] += 1
        scores.append(record["similarity"])
        for name in ("free", "unfinished", "visible", "image_tokens"):
            sums[name] += record[name]
        sums["same"] += pair.rejected.split() == pair.chosen.split()
        sums["empty"] += not pair.rejected
        if {"objects", "vocabulary"} <= pair.meta.keys():
            sums["answers"] += 1
            for name in ("chosen", "rejected"):
                found = find_mentions(pair.answers[name], tuple(pair.meta["vocabulary"]))
                sums[name] += sum(mention.name not in pair.meta["objects"] for mention in found)
    counts, edges = np.histogram(np.clip(scores, -1, 1), bins=40, range=(-1, 1))
    numbers: dict[str, Any] = {
        "pairs": len(scores),
        "iterations": {str(number): iterations[number] for number in sorted(iterations)},
        **{name: sums[name] for name in ("free", "same", "empty", "unfinished")},
        "visible_share": sums["visible"] / max(sums["image_tokens"], 1),
        "similarity": {"edges": edges.tolist(), "counts": counts.tolist()},
    }
    if answers := sums["answers"]:
        means = {name: sums[name] / answers for name in ("chosen", "rejected")}
        numbers["hallucinated_per_answer"] = {"answers": answers, **means}
    return numbers
