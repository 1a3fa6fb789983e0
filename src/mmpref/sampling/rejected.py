"""Pairs with a sampled rejected answer, and how it came to be."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from mmpref.records.rows import Candidate, Pair, Quarantined, candidates
from mmpref.study.preferences import SAMPLERS


def with_rejected(pair: Pair, sampler: str, row: dict[str, Any]) -> Pair:
    """Return a pair with the `text` of a journal's row; the rest of the row is `meta[sampler]`.

    What an earlier sampler wrote there about the answer that is replaced goes with it.
    """
    record = {name: value for name, value in row.items() if name not in ("id", "text", "accepted")}
    kept = {name: value for name, value in pair.meta.items() if name not in SAMPLERS}
    return replace(pair, rejected=row["text"], meta={**kept, sampler: record})


def record_of(meta: dict[str, Any]) -> dict[str, Any]:
    """Return what a pair's `meta` says of how its rejected answer came to be."""
    return next(meta[name] for name in SAMPLERS if name in meta)


def to_check(pairs: Iterable[Pair]) -> Iterator[Candidate | Quarantined]:
    """Yield sampled pairs as rows to be checked; with the reason those that were not sampled.

    A row without `text` whose `unfit` is `mmpref.logprobs.encoding.Unfit.facts` is of such a pair.
    """
    for row in candidates(pairs, "sampled answers"):
        unfit = record_of(row.meta).get("unfit")
        if unfit:
            content = {"prompt": row.prompt, "chosen": row.chosen}
            field, reason = unfit["field"], unfit["reason"]
            yield Quarantined(row.file, row.row, row.id, field, reason, content)
        else:
            yield row
