"""GQA (arXiv 1902.09506), scored as by its `eval.py` after LLaVA's conversion, and strictly."""

from typing import Any

from mmpref.benchmarks.vqa import score as vqa
from mmpref.records.items import Item
from mmpref.scoring.metric import Metric, ratio
from mmpref.scoring.resources import Resources


def verdict(item: Item, response: str, resources: Resources) -> dict[str, Any]:
    """Return the counts of one answer, overall and under `binary/` or `open/`, all 0 or 1.

    `items` (1), `official_correct`: equal to the answer once final periods and capitals are gone
    (`convert_gqa_for_eval.py` of LLaVA); `strict_correct`: equal after the normalisation of
    VQA; `unparsed` (nothing is left after that) and `differs`. A question is open when its
    structural type is `query`, as in `eval.py`.
    """
    truth, answer = item.truth["answer"], vqa.normalised(response)
    official = response.rstrip(".").lower() == truth
    strict = bool(answer) and answer == vqa.normalised(truth)
    counts = {
        "items": 1,
        "official_correct": int(official),
        "strict_correct": int(strict),
        "unparsed": int(not answer),
        "differs": int(official != strict),
    }
    part = "open" if item.truth["structural"] == "query" else "binary"
    note = ("right" if strict else "wrong") if answer else "no answer"
    if official != strict:
        note += f" (official: {'right' if official else 'wrong'})"
    return {
        **counts,
        **{f"{part}/{name}": count for name, count in counts.items()},
        "flawed": not strict,
        "expected": truth,
        "note": note,
    }


def metrics(columns: set[str]) -> dict[str, Metric]:
    """Return the accuracy of both readings in percent, also of binary and of open questions."""
    meaning = "percent of {} questions answered as people do"
    return vqa.metrics(columns, "correct", lambda right, items: 100 * ratio(right, items), meaning)
