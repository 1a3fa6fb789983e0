"""Log-probabilities under the reference model: the files in which training finds them.

They are computed once (`mmpref.logprobs.reference_shard`): training never loads or runs the
reference. A file holds the answers of all pairs under one kind of image; each says in its Parquet
metadata what it was made from, and is refused where it does not belong.

Columns are `id`, `epoch` and, for every answer, `sum/ANSWER` (nats), `tokens/ANSWER` and, where
it was asked for, `by_token/ANSWER` (lists). A row is a pair in an epoch: all pairs in their order
in the first epoch, then in the second.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmpref.errors import InputError
from mmpref.files import replacing, sha256
from mmpref.fingerprint import differences, model_identity
from mmpref.logprobs.examples import Turn
from mmpref.logprobs.views import View
from mmpref.study.reference import Stored

METADATA_KEY = b"mmpref"
ORIGIN = ("pairs", "model", "dtype")


def origin(pairs_file: Path, model: Path, dtype: str) -> dict[str, Any]:
    """Return what log-probabilities of a file of pairs under a model depend on."""
    return {"pairs": sha256(pairs_file), "model": model_identity(model), "dtype": dtype}


@dataclass(frozen=True)
class Known:
    """What the reference says of an answer of `tokens` tokens, in nats; `by_token` [tokens]."""

    sum: float
    tokens: int
    by_token: np.ndarray | None


class Reference:
    """What the reference says of the views of a run, read by number."""

    def __init__(
        self, pairs: int, tables: Mapping[str, pa.Table], seeds: Mapping[str, int]
    ) -> None:
        """Take the table of each image for so many pairs, and the seed of each degraded image."""
        self.seeds = dict(seeds)
        self.epochs = {image: table.num_rows // pairs for image, table in tables.items()}
        self.pairs = pairs
        # Arrow's own memory: a Python float for each would be six times as much.
        self.columns = {
            (image, name): table[name].combine_chunks()
            for image, table in tables.items()
            for name in table.column_names
        }

    def of(self, turn: Turn, view: View) -> Known:
        """Return what is known of a view at a pair's turn."""
        image = view.image
        row = turn.number + self.pairs * min(turn.epoch, self.epochs[image] - 1)
        by_token = self.columns.get((image, f"by_token/{view.answer}"))
        return Known(
            self.columns[image, f"sum/{view.answer}"][row].as_py(),
            self.columns[image, f"tokens/{view.answer}"][row].as_py(),
            by_token[row].values.to_numpy() if by_token is not None else None,
        )


def read_reference(
    files: Sequence[Path],
    facts: Mapping[str, Any],
    pairs: int,
    views: Sequence[View],
    by_token: bool,
    epochs: int,
) -> Reference:
    """Read what the files hold of `views` of so many pairs in so many epochs.

    Raises:
        InputError: a file is missing, damaged, or was made from something else than `facts` say,
            or no file holds what is needed.
    """
    tables, seeds = {}, {}
    held = {file: read_facts(file) for file in files}
    for image in dict.fromkeys(view.image for view in views):
        found = [(file, one) for file, one in held.items() if one[1].image == image]
        if not found:
            raise InputError(
                f"{', '.join(map(str, files)) or 'no files'}: nothing about the image {image}, "
                "which the objective looks at; compute its reference too"
            )
        file, (made_from, stored) = found[0]
        _refuse_others(file, made_from, facts)
        answers = [view.answer for view in views if view.image == image]
        _refuse_less(file, stored, answers, by_token, epochs)
        kinds = ("sum", "tokens", *(("by_token",) if by_token else ()))
        names = [f"{kind}/{answer}" for answer in answers for kind in kinds]
        tables[image] = _read(file, names)
        if tables[image].num_rows != pairs * stored.epochs:
            raise InputError(
                f"{file}: has {tables[image].num_rows} rows where {pairs} pairs in "
                f"{stored.epochs} epochs are expected; remove it and compute the reference again"
            )
        if stored.seed is not None:
            seeds[image] = stored.seed
    reference = Reference(pairs, tables, seeds)
    # Arrow would keep what it needed to unpack the files, three times as much.
    pa.default_memory_pool().release_unused()
    return reference


def _refuse_others(file: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    differing = differences(found, wanted)
    if differing:
        raise InputError(
            f"{file}: was made from something else ({'; '.join(differing)}); "
            "remove it and compute the reference again"
        )


def _refuse_less(
    file: Path, stored: Stored, answers: Sequence[str], by_token: bool, epochs: int
) -> None:
    lacking = ""
    if missing := sorted(set(answers) - set(stored.answers)):
        lacking = f"lacks the answer {', '.join(missing)}"
    elif by_token and not stored.by_token:
        lacking = "lacks the log-probabilities of each token"
    elif stored.seed is not None and stored.epochs < epochs:
        lacking = f"has {stored.epochs} epochs where {epochs} are trained"
    if lacking:
        raise InputError(f"{file}: {lacking}; remove it and compute the reference again")


def merge(output: Path, shards: Sequence[Path]) -> None:
    """Write what shards hold, given in the order of their numbers, as one file.

    Raises:
        InputError: a shard is missing or damaged, or they are not the shards of one whole.
    """
    whole = None
    tables = []
    for number, shard in enumerate(shards):
        facts, stored = read_facts(shard)
        place = {"shard": number, "shards": len(shards)}
        found = {**facts, "stored": stored.model_dump(mode="json")}
        whole = whole or {name: fact for name, fact in found.items() if name not in place}
        _refuse_others(shard, found, {**whole, **place})
        table = _read(shard, None)
        size = len(table) // stored.epochs
        tables.append([table.slice(epoch * size, size) for epoch in range(stored.epochs)])
    assert whole is not None
    # Epoch by epoch, in each all shards.
    parts = [part for epoch in zip(*tables, strict=True) for part in epoch]
    write_table(output, pa.concat_tables(parts), whole)


def write_table(path: Path, table: pa.Table, facts: Mapping[str, Any]) -> None:
    """Write a table with the facts it was made from, under the key `stored` what it holds."""
    table = table.combine_chunks().replace_schema_metadata({METADATA_KEY: json.dumps(facts)})
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def read_facts(path: Path) -> tuple[dict[str, Any], Stored]:
    """Return what a file was made from, and what it holds.

    Raises:
        InputError: it is missing, damaged, or not a file of reference log-probabilities.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except FileNotFoundError:
        raise InputError(f"{path}: does not exist; compute the reference first") from None
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    try:
        facts = json.loads(metadata[METADATA_KEY])
        return facts, Stored.model_validate_json(json.dumps(facts.pop("stored")))
    except (KeyError, ValueError):
        raise InputError(
            f"{path}: does not hold reference log-probabilities of this version; "
            "remove it and compute the reference again"
        ) from None


def _read(path: Path, columns: list[str] | None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: cannot be read as Parquet ({error}); remove it and compute the reference again"
    )
