"""Scoring: items and responses in, one verdict per item out, and metrics over the verdicts."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mmpref.errors import InputError
from mmpref.files import replacing
from mmpref.records.items import Item, load_image
from mmpref.scoring.judge import Call
from mmpref.scoring.metric import READINGS, Metric, bootstrap, estimate, share
from mmpref.scoring.resources import Resources
from mmpref.study.benchmarks import kinds, module_of


class Scorer(Protocol):
    """What the module `score` in a folder of `mmpref.benchmarks` offers."""

    def verdict(self, item: Item, response: str, resources: Resources) -> dict[str, Any]:
        """Return the columns of one item; numbers are sums' parts, everything else is shown."""

    def metrics(self, columns: set[str]) -> dict[str, Metric]:
        """Return the metrics that can be computed from a verdict table with `columns`."""


class JudgedScorer(Scorer, Protocol):
    """What it offers besides where a judge model can score the benchmark."""

    def calls(self, item: Item, response: str, resources: Resources) -> list[Call]:
        """Return the questions to the judge about one response."""

    def usable(self, text: str) -> bool:
        """Return whether a reply of the judge can be read; otherwise it is asked again."""

    def parse(self, text: str) -> Any:
        """Return the score in a reply under the strict reading, None if there is none."""


def scorer_of(kind: str) -> Any:
    """Return the scorer of a kind of items: a Scorer, or a JudgedScorer.

    Raises InputError when there is no such kind.
    """
    if kind not in kinds():
        raise InputError(f"kind {kind!r} of benchmark items: has no scorer; use one of {kinds()}")
    return module_of(kind, "score")


# What all public benchmarks have.
_SHARED = {
    "unparsed_rate": share(
        "unparsed",
        "items",
        "lower",
        "share of items whose response, or the judge's reply to it, could not be parsed",
    ),
    "readings_differ": share(
        "differs", "items", None, "share of items that the two readings judge differently"
    ),
    "judge_failures": Metric(
        lambda sums: sums["judge_failures"],
        "lower",
        "questions to the judge without a reply that could be read",
    ),
}
# The columns they need, where these are not called like them.
_NEEDED = {"unparsed_rate": "differs", "readings_differ": "differs"}

_MENTIONS = pa.list_(pa.struct([("name", pa.string()), ("start", pa.int64()), ("end", pa.int64())]))
_SPANS = ("hallucinated_mentions", "grounded_mentions")


@dataclass(frozen=True)
class Scores:
    """The verdicts on one run's responses to one benchmark.

    `table` has one row per item, in the order of the benchmark: `id`, `image` (its file's name, or
    a digest; questions about one image share it), `kind`, `prompt`, `response`, and the columns of
    the scorer's `verdict`. Every metric is a function of the sums of its numeric columns.
    """

    table: pd.DataFrame

    @property
    def kind(self) -> str:
        """The kind of truth the responses were held against."""
        return str(self.table["kind"].iloc[0])

    @property
    def metrics(self) -> dict[str, Metric]:
        """The metrics of this table, by name; those of a reading are called READING/NAME."""
        columns = set(self.table.columns)
        shared = {name: one for name, one in _SHARED.items() if _NEEDED.get(name, name) in columns}
        return scorer_of(self.kind).metrics(columns) | shared


def score(
    items: Sequence[Item],
    responses: Sequence[dict[str, Any]],
    resources: Resources | None = None,
    source: str | Path = "responses",
) -> Scores:
    """Return the verdict on each item's response; `responses` are `{id, response, ...}`.

    `source` is where they are from, for messages. Where every response says whether it `ended`
    by itself, the table has a column `unfinished`.

    Raises InputError when an item has no response or several, a response has no item or no text,
    or the items are not of one kind.
    """
    kind = _kind(items)
    given = paired(items, responses, source)
    scorer, resources = scorer_of(kind), resources or Resources()
    rows = [
        {
            "id": item.id,
            "image": _image(item),
            "kind": kind,
            "prompt": item.prompt,
            "response": response["response"],
            **scorer.verdict(item, response["response"], resources),
        }
        for item, response in given
    ]
    table = pd.DataFrame(rows)
    if all("ended" in response for response in responses):
        table["unfinished"] = [int(not response["ended"]) for _, response in given]
    # Counts under one setting are absent from the rows of the others.
    for name in table.select_dtypes("number").columns:
        values = table[name].fillna(0)
        table[name] = values.astype("int64") if (values % 1 == 0).all() else values
    return Scores(table)


def judge_calls(
    items: Sequence[Item],
    responses: Sequence[dict[str, Any]],
    resources: Resources,
    source: str | Path = "responses",
) -> tuple[list[Call], JudgedScorer]:
    """Return the questions to the judge about all responses, and what reads its replies.

    Raises InputError as `score` does, and when the items are of no kind that a judge scores.
    """
    kind = _kind(items)
    scorer = scorer_of(kind)
    if not hasattr(scorer, "calls"):
        raise InputError(f"a {kind} benchmark is scored without a judge; leave the judge out")
    calls = [
        call
        for item, response in paired(items, responses, source)
        for call in scorer.calls(item, response["response"], resources)
    ]
    return calls, scorer


def write_scores(
    path: str | Path,
    verdicts: str | Path,
    scores: Scores,
    benchmark: str,
    seed: int,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the metrics as JSON to `path`, the table as Parquet to `verdicts`; return the former.

    The JSON has the metrics of each reading under its name (`official`, `strict`), all others
    under `metrics`, and their 95 % intervals, which resample the items (`seed` is the study's, for
    the draws), under `intervals`; undefined is null. `about` is added as it is.
    """
    content: dict[str, Any] = {
        "benchmark": benchmark,
        "items": len(scores.table),
        "empty": int((scores.table["response"].str.strip() == "").sum()),
    }
    intervals = {}
    for name, values in bootstrap([scores.table], scores.metrics, seed, benchmark).items():
        value, low, high = (None if isnan(number) else number for number in estimate(values))
        intervals[name] = [low, high]
        reading, _, rest = name.partition("/")
        if name in _SHARED:
            content[name] = value
        elif reading in READINGS:
            content.setdefault(reading, {})[rest] = value
        else:
            content.setdefault("metrics", {})[name] = value
    content["intervals"] = intervals
    content |= about or {}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    arrays = {
        name: pa.array(column.to_list(), _MENTIONS if name in _SPANS else None, from_pandas=True)
        for name, column in scores.table.items()
    }
    with replacing(verdicts) as temporary:
        pq.write_table(pa.table(arrays), temporary, compression="zstd")
    return content


def summary(content: Mapping[str, Any]) -> str:
    """Return what `write_scores` wrote as lines to read: a metric, and its value by reading."""
    readings = {name: content[name] for name in (*READINGS, "metrics") if name in content}
    table = pd.DataFrame(readings, dtype=float)
    items, empty = content["items"], content["empty"]
    lines = [f"{content['benchmark']}: {items} items, {empty} empty responses"]
    lines.append(table.to_string(float_format="{:.6g}".format, na_rep="–", col_space=11))
    lines += [f"{name}: {content[name]:.6g}" for name in _SHARED if name in content]
    return "\n".join(lines)


def read_scores(verdicts: str | Path) -> Scores:
    """Return what `write_scores` wrote. Raises InputError when it is not a table of verdicts."""
    try:
        table = pd.DataFrame(pq.ParquetFile(verdicts).read().to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{verdicts}: cannot be read ({error}); score the run again") from None
    if table.empty or not {"id", "image", "kind", "response", "flawed"} <= set(table.columns):
        raise InputError(f"{verdicts}: is not a table of verdicts; score the run again")
    scores = Scores(table)
    if scores.kind not in kinds():
        raise InputError(f"{verdicts}: kind {scores.kind!r} has no scorer; score the run again")
    return scores


def _kind(items: Sequence[Item]) -> str:
    kinds = sorted({item.truth["kind"] for item in items})
    if len(kinds) != 1:
        raise InputError(
            f"the benchmark has items of {len(kinds)} kinds ({', '.join(kinds) or 'it is empty'}); "
            "make one benchmark of each kind"
        )
    return str(kinds[0])


def paired(
    items: Sequence[Item], responses: Sequence[dict[str, Any]], source: str | Path
) -> list[tuple[Item, dict[str, Any]]]:
    """Return each item with its one response. Raises InputError when it has none, or several."""
    for row, response in enumerate(responses):
        for field in ("id", "response"):
            if not isinstance(response.get(field), str):
                raise InputError(f"{source}: response {row}: {field} is not text; write one")
    given = Counter(response["id"] for response in responses)
    wanted = {item.id for item in items}
    problems = [
        f"{len(ids)} {what} ({', '.join(sorted(ids)[:3])}{', ...' if len(ids) > 3 else ''})"
        for what, ids in (
            ("items without a response", wanted - given.keys()),
            ("responses to items that are not in the benchmark", given.keys() - wanted),
            ("items with several responses", {id for id, times in given.items() if times > 1}),
        )
        if ids
    ]
    if problems:
        raise InputError(
            f"{source}: does not match the benchmark: {'; '.join(problems)}; "
            "generate the responses from this version of the benchmark"
        )
    by_id = {response["id"]: response for response in responses}
    return [(item, by_id[item.id]) for item in items]


def _image(item: Item) -> str:
    """Return the name of an item's image, or a digest of its images, or its id when it has none."""
    if "image" in item.truth:
        return str(item.truth["image"])
    if not item.images:
        return item.id
    sums = (hashlib.sha256(load_image(image)).digest() for image in item.images)
    return hashlib.sha256(b"".join(sums)).hexdigest()[:16]
