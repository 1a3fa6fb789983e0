"""Scoring: items and responses in, one verdict per item out, and metrics over the verdicts."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mmpref.errors import InputError
from mmpref.evaluation.items import Item
from mmpref.evaluation.scorers import captions, open_ended, yesno
from mmpref.evaluation.statistics import Metric, bootstrap, estimate
from mmpref.files import replacing


class Scorer(Protocol):
    """What a module in `scorers` offers."""

    def verdict(self, item: Item, response: str) -> dict[str, Any]:
        """Return the columns of one item; numbers are counts to sum, everything else is shown."""

    def metrics(self, columns: set[str]) -> dict[str, Metric]:
        """Return the metrics that can be computed from a verdict table with `columns`."""


# By the `kind` of an item's truth.
SCORERS: dict[str, Scorer] = {"caption": captions, "yesno": yesno, "open": open_ended}

_MENTIONS = pa.list_(pa.struct([("name", pa.string()), ("start", pa.int64()), ("end", pa.int64())]))


@dataclass(frozen=True)
class Scores:
    """The verdicts on one run's answers to one benchmark.

    `table` has one row per item, in the order of the benchmark: `id`, `image` (digest of its
    images; questions about one image share it), `kind`, `response`, and the columns of the
    scorer's `verdict`. Every metric is a function of the sums of its numeric columns.
    """

    table: pd.DataFrame

    @property
    def kind(self) -> str:
        """The kind of truth the answers were held against."""
        return str(self.table["kind"].iloc[0])

    @property
    def metrics(self) -> dict[str, Metric]:
        """The metrics of this table, by name."""
        return SCORERS[self.kind].metrics(set(self.table.columns))


def score(items: Sequence[Item], responses: Sequence[dict[str, Any]]) -> Scores:
    """Return the verdict on each item's response; `responses` are `{id, response, ...}`.

    Where every response says whether it `ended` by itself, the table has a column `unfinished`.

    Raises InputError when an item has no response or several, a response has no item or no text,
    or the items are not of one kind.
    """
    kinds = sorted({item.truth["kind"] for item in items})
    if len(kinds) != 1:
        raise InputError(
            f"the benchmark has items of {len(kinds)} kinds ({', '.join(kinds) or 'it is empty'}); "
            "make one benchmark of each kind"
        )
    given = _by_id(items, responses)
    scorer = SCORERS[kinds[0]]
    rows = [
        {
            "id": item.id,
            "image": _image(item),
            "kind": kinds[0],
            "response": given[item.id]["response"],
            **scorer.verdict(item, given[item.id]["response"]),
        }
        for item in items
    ]
    table = pd.DataFrame(rows)
    if all("ended" in response for response in responses):
        table["unfinished"] = [int(not given[item.id]["ended"]) for item in items]
    # Counts under one setting are absent from the rows of the others.
    numbers = table.select_dtypes("number").columns
    table[numbers] = table[numbers].fillna(0).astype("int64")
    return Scores(table)


def read_responses(path: str | Path) -> list[dict[str, Any]]:
    """Return the lines of a responses file. Raises InputError when a line is no JSON object."""
    responses = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                response = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(
                    f"{path}: line {number}: no JSON ({error}); generate it again"
                ) from None
            if not isinstance(response, dict):
                raise InputError(f"{path}: line {number}: not an object with id and response")
            responses.append(response)
    return responses


def write_scores(
    summary: str | Path, verdicts: str | Path, scores: Scores, benchmark: str, seed: int
) -> None:
    """Write the metrics with intervals as JSON to `summary`, the table as Parquet to `verdicts`.

    Intervals resample the items (`seed` is the study's, for the draws). Undefined is null.
    """
    values = bootstrap([scores.table], scores.metrics, seed, benchmark)
    estimates = {name: vars(estimate(array)) for name, array in values.items()}
    content = {
        "benchmark": benchmark,
        "items": len(scores.table),
        "metrics": {
            name: {key: None if math.isnan(number) else number for key, number in numbers.items()}
            for name, numbers in estimates.items()
        },
    }
    with replacing(summary) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    arrays = {
        name: pa.array(column.to_list(), _MENTIONS if name.endswith("_mentions") else None)
        for name, column in scores.table.items()
    }
    with replacing(verdicts) as temporary:
        pq.write_table(pa.table(arrays), temporary, compression="zstd")


def read_scores(verdicts: str | Path) -> Scores:
    """Return what `write_scores` wrote. Raises InputError when it is no table of verdicts."""
    try:
        table = pd.DataFrame(pq.ParquetFile(verdicts).read().to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{verdicts}: cannot be read ({error}); score the run again") from None
    if table.empty or not {"id", "image", "kind", "response"} <= set(table.columns):
        raise InputError(f"{verdicts}: no table of verdicts; score the run again")
    if table["kind"].iloc[0] not in SCORERS:
        raise InputError(f"{verdicts}: kind {table['kind'].iloc[0]!r} has no scorer")
    return Scores(table)


def _by_id(items: Sequence[Item], responses: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the response to each item's id, exactly one each."""
    for row, response in enumerate(responses):
        for field in ("id", "response"):
            if not isinstance(response.get(field), str):
                raise InputError(f"response {row}: {field} is not text; generate it again")
    given = Counter(response["id"] for response in responses)
    wanted = {item.id for item in items}
    problems = [
        f"{len(ids)} {what} ({', '.join(sorted(ids)[:3])}{', ...' if len(ids) > 3 else ''})"
        for what, ids in (
            ("items without a response", wanted - given.keys()),
            ("responses to items the benchmark has not", given.keys() - wanted),
            ("items with several responses", {id for id, times in given.items() if times > 1}),
        )
        if ids
    ]
    if problems:
        raise InputError(
            f"responses and benchmark do not match: {'; '.join(problems)}; "
            "generate the responses from this version of the benchmark"
        )
    return {response["id"]: response for response in responses}


def _image(item: Item) -> str:
    """Return a digest of an item's images, or its id when it has none."""
    if not item.images:
        return item.id
    digest = hashlib.sha256()
    for image in item.images:
        digest.update(hashlib.sha256(image).digest())
    return digest.hexdigest()[:16]
