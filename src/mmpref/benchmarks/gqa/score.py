"""GQA (arXiv 1902.09506), scored as by its `eval.py` after LLaVA's conversion, and strictly."""

from typing import Any

from mmpref.benchmarks.vqa.score import normalised
from mmpref.records.items import Item
from mmpref.scoring.metric import Array, Metric, Sums, printed, ratio
from mmpref.scoring.resources import Resources


def verdict(item: Item, response: str, resources: Resources) -> dict[str, Any]:
    """Return the counts of one answer, overall and under `binary/` or `open/`, all 0 or 1.

    `items` (1), `official_correct`: equal to the answer once final periods and capitals are gone
    (`convert_gqa_for_eval.py` of LLaVA); `strict_correct`: equal after the normalisation of
    VQA; `unparsed` (nothing is left after that) and `differs`. A question is open when its
    structural type is `query`, as in `eval.py`.
    """
    truth = item.truth["answer"]
    answer = normalised(response)
    official = response.rstrip(".").lower() == truth
    strict = bool(answer) and answer == normalised(truth)
    counts = {
        "items": 1,
        "official_correct": int(official),
        "strict_correct": int(strict),
        "unparsed": int(not answer),
        "differs": int(official != strict),
    }
    part = "open" if item.truth["structural"] == "query" else "binary"
    note = ("right" if strict else "wrong") if answer else "no answer"
    return {
        **counts,
        **{f"{part}/{name}": count for name, count in counts.items()},
        "flawed": not strict,
        "expected": truth,
        "note": f"{note} (official: {'right' if official else 'wrong'})"
        if official != strict
        else note,
    }


def metrics(columns: set[str]) -> dict[str, Metric]:
    """Return the accuracy of both readings in percent, also of binary and of open questions.

    The official one is rounded to the two decimals that `eval.py` prints.
    """
    found = {}
    for part in ("", *(part for part in ("binary/", "open/") if f"{part}items" in columns)):

        def official(sums: Sums, part: str = part) -> Array:
            return printed(100 * ratio(sums[f"{part}official_correct"], sums[f"{part}items"]), 2)

        def strict(sums: Sums, part: str = part) -> Array:
            return 100 * ratio(sums[f"{part}strict_correct"], sums[f"{part}items"])

        meaning = f"percent of {part.strip('/') or 'all'} questions answered as people do"
        found[f"official/{part}accuracy"] = Metric(official, "higher", meaning)
        found[f"strict/{part}accuracy"] = Metric(strict, "higher", meaning)
    return found
