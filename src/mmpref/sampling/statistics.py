"""What a sampling run produced, in numbers."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmpref.language.mentions import find_mentions
from mmpref.records.rows import Pair


def statistics(pairs: Sequence[Pair]) -> dict[str, Any]:
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
    records = [pair.meta["bdhs"] for pair in pairs]
    scores = [record["similarity"] for record in records]
    counts, edges = np.histogram(np.clip(scores, -1, 1), bins=40, range=(-1, 1))
    image_tokens = sum(record["image_tokens"] for record in records)
    iterations = Counter(record["iteration"] for record in records)
    found: dict[str, Any] = {
        "pairs": len(pairs),
        "iterations": {str(number): iterations[number] for number in sorted(iterations)},
        "free": sum(record["free"] for record in records),
        "same": sum(pair.rejected.split() == pair.chosen.split() for pair in pairs),
        "empty": sum(not pair.rejected for pair in pairs),
        "unfinished": sum(record["unfinished"] for record in records),
        "visible_share": sum(record["visible"] for record in records) / max(image_tokens, 1),
        "similarity": {"edges": edges.tolist(), "counts": counts.tolist()},
    }
    known = [pair for pair in pairs if {"objects", "vocabulary"} <= pair.meta.keys()]
    if known:
        found["hallucinated_per_answer"] = {
            "answers": len(known),
            "chosen": sum(_hallucinated(pair, pair.chosen) for pair in known) / len(known),
            "rejected": sum(_hallucinated(pair, pair.rejected) for pair in known) / len(known),
        }
    return found


def _hallucinated(pair: Pair, answer: str) -> int:
    mentions = find_mentions(answer, tuple(pair.meta["vocabulary"]))
    return sum(mention.name not in pair.meta["objects"] for mention in mentions)
