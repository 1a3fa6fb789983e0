"""What a sampling run produced, in numbers."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from mmpref.language.mentions import find_mentions
from mmpref.records.rows import Pair
from mmpref.sampling.rejected import record_of


def statistics(pairs: Iterable[Pair]) -> dict[str, Any]:
    """Return statistics of all sampled pairs, the quarantined ones included.

    - `variant`: `attention` or `noise` (BDHS), or `distortion`, and its `noise_step` (or null);
    - `pairs`: how many; `unfit`: how many of them the model could not be given, and which count
      nowhere else; `iterations`: how many came from which iteration, as text;
    - `free`: how many were sampled without guidance, in the last iteration;
    - `same`, `empty`, `unfinished`: how many equal the chosen answer or say nothing, and so cannot
      be trained on, or ran into the limit of tokens;
    - `visible_share` (BDHS): share of the image tokens that were visible;
    - `changed_share` (distortion): share of the chosen answers' tokens that were not expected;
    - `similarity`: a histogram, `counts` between `edges`;
    - `hallucinated_per_answer`: for the `answers` pairs whose meta has `objects` and `vocabulary`,
      the mean number of mentions of objects that are not in the image, `chosen` and `rejected`.
    """
    iterations: Counter[int] = Counter()
    sums: Counter[str] = Counter()
    scores: list[float] = []
    variant = noise_step = None
    for pair in pairs:
        record = record_of(pair.meta)
        if "unfit" in record:
            sums["unfit"] += 1
            continue
        # Shards are of one setting, so all pairs are of one variant.
        variant, noise_step = _variant(record)
        iterations[record.get("iteration", 1)] += 1
        scores.append(record["similarity"])
        for name in ("free", "unfinished", "visible", "image_tokens", "tokens", "changed"):
            sums[name] += record.get(name, 0)
        sums["same"] += pair.rejected.split() == pair.chosen.split()
        sums["empty"] += not pair.rejected
        if {"objects", "vocabulary"} <= pair.meta.keys():
            sums["answers"] += 1
            for name in ("chosen", "rejected"):
                found = find_mentions(pair.answers[name], tuple(pair.meta["vocabulary"]))
                sums[name] += sum(mention.name not in pair.meta["objects"] for mention in found)
    counts, edges = np.histogram(np.clip(scores, -1, 1), bins=40, range=(-1, 1))
    numbers: dict[str, Any] = {
        "variant": variant,
        "noise_step": noise_step,
        "pairs": len(scores) + sums["unfit"],
        "unfit": sums["unfit"],
        "iterations": {str(number): iterations[number] for number in sorted(iterations)},
        **{name: sums[name] for name in ("free", "same", "empty", "unfinished")},
        **(
            {"changed_share": sums["changed"] / max(sums["tokens"], 1)}
            if variant == "distortion"
            else {"visible_share": sums["visible"] / max(sums["image_tokens"], 1)}
        ),
        "similarity": {"edges": edges.tolist(), "counts": counts.tolist()},
    }
    if answers := sums["answers"]:
        means = {name: sums[name] / answers for name in ("chosen", "rejected")}
        numbers["hallucinated_per_answer"] = {"answers": answers, **means}
    return numbers


def _variant(record: dict[str, Any]) -> tuple[str, int | None]:
    step = record.get("noise_step")
    if "changed" in record:
        return "distortion", step
    return ("attention" if step is None else "noise"), step
