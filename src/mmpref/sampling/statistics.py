"""What a sampling run produced, in numbers."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from mmpref.language.mentions import find_mentions
from mmpref.records.rows import Pair


def statistics(pairs: Iterable[Pair]) -> dict[str, Any]:
    """Return statistics of all sampled pairs, the quarantined ones included.

    - `pairs`: how many;
    - `iterations`: how many answers came from which iteration, as text; they add up to `pairs`;
    - `free`: how many were sampled without guidance, in the last iteration;
    - `same` and `empty`: how many equal the chosen answer or say nothing, and so cannot be trained
      on; `unfinished`: how many ran into the limit of tokens;
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
            sums["known"] += 1
            sums["chosen"] += _hallucinated(pair, pair.chosen)
            sums["rejected"] += _hallucinated(pair, pair.rejected)
    counts, edges = np.histogram(np.clip(scores, -1, 1), bins=40, range=(-1, 1))
    found: dict[str, Any] = {
        "pairs": len(scores),
        "iterations": {str(number): iterations[number] for number in sorted(iterations)},
        **{name: sums[name] for name in ("free", "same", "empty", "unfinished")},
        "visible_share": sums["visible"] / max(sums["image_tokens"], 1),
        "similarity": {"edges": edges.tolist(), "counts": counts.tolist()},
    }
    if answers := sums["known"]:
        found["hallucinated_per_answer"] = {
            "answers": answers,
            "chosen": sums["chosen"] / answers,
            "rejected": sums["rejected"] / answers,
        }
    return found


def _hallucinated(pair: Pair, answer: str) -> int:
    mentions = find_mentions(answer, tuple(pair.meta["vocabulary"]))
    return sum(mention.name not in pair.meta["objects"] for mention in mentions)
