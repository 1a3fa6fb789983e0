"""Log-probabilities under the reference model: computed once, then only read by training.

A file holds the answers of all pairs under one kind of image, and in its metadata what it was made
from. Columns are `id`, `epoch` and, for every answer, `sum/ANSWER` (nats), `tokens/ANSWER` and,
where asked for, `by_token/ANSWER` (lists); rows are all pairs in the first epoch, then the second.
A pair that the model cannot be given (too long, or with a control token in its texts) has no
numbers: `kept_out` says why, as JSON (`Unfit.facts`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import Dataset

from mmpref.errors import InputError
from mmpref.files import replacing, sha256
from mmpref.fingerprint import differences, fingerprint, model_identity
from mmpref.journal import Journal
from mmpref.logprobs.encoding import Unfit
from mmpref.logprobs.examples import Examples, Turn, batches_of, workers_for
from mmpref.logprobs.forward import Example, log_probabilities
from mmpref.logprobs.views import View
from mmpref.models import VisionLanguageModel
from mmpref.progress import say, track
from mmpref.records.pairs import Pairs
from mmpref.study.reference import Stored


def origin(pairs_file: Path, model: Path, dtype: str) -> dict[str, Any]:
    """Return what log-probabilities of a file of pairs under a model depend on."""
    return {"pairs": sha256(pairs_file), "model": model_identity(model), "dtype": dtype}


def compute_shard(
    output: Path,
    model: Path,
    pairs_file: Path,
    dtype: str,
    batch_size: int,
    stored: Stored,
    shard: int = 0,
    shards: int = 1,
) -> None:
    """Write what a model says of the pairs of a shard, 0 <= `shard` < `shards`.

    An interrupted call goes on from a journal beside `output`, to the same result. Raises
    InputError when model or pairs cannot be read, or a pair lacks an answer.
    """
    pairs = Pairs(pairs_file)
    facts = {**origin(pairs_file, model, dtype), "stored": stored.model_dump(mode="json")}
    facts |= {"shard": shard, "shards": shards}
    first, last = (len(pairs) * edge // shards for edge in (shard, shard + 1))
    lengths = pairs.answer_lengths
    turns = [Turn(number, epoch) for epoch in range(stored.epochs) for number in range(first, last)]
    # The longest first: what does not fit into memory fails at once, and little is padding.
    turns.sort(key=lambda turn: -lengths[turn.number])
    batches = [turns[start : start + batch_size] for start in range(0, len(turns), batch_size)]
    columns = _columns(stored.answers, stored.by_token)
    own = {"id": pa.string(), "epoch": pa.int32(), "kept_out": pa.string()}
    schema = pa.schema({**own, **columns})
    journal = output.with_suffix(".journal")
    key = fingerprint({**facts, "batch_size": batch_size, "columns": schema.names})
    with Journal(journal, key) as done:
        # Arrow's own memory: a Python float for each number would be nine times as much.
        tables = [schema.empty_table(), *(pa.table(rows, schema) for rows in done.rows)]
        todo = batches[len(done.rows) :]
        if todo:
            vlm = VisionLanguageModel.load(model, getattr(torch, dtype))
            seeds = {} if stored.seed is None else {stored.image: stored.seed}
            examples = Examples(
                vlm.processor,
                pairs,
                (stored.image,),
                stored.answers,
                seeds,
                max_length=stored.max_length,
            )
            found = _rows(vlm, examples, todo, stored)
            for rows in track(found, f"reference, {stored.image}", total=len(todo)):
                done.append([rows])
                tables.append(pa.table(rows, schema))
    order = np.lexsort(np.array(turns, int).reshape(-1, 2).T)  # by epoch, then by number
    write_table(output, pa.concat_tables(tables).take(order), facts)
    journal.unlink()


def _columns(answers: Iterable[str], by_token: bool) -> dict[str, pa.DataType]:
    kinds = {"sum": pa.float32(), "tokens": pa.int32()}
    if by_token:
        kinds["by_token"] = pa.list_(pa.float32())
    return {f"{kind}/{answer}": column for answer in answers for kind, column in kinds.items()}


def _rows(
    vlm: VisionLanguageModel, examples: Examples, batches: Sequence[list[Turn]], stored: Stored
) -> Iterator[dict[str, list[Any]]]:
    views = [View(answer, stored.image) for answer in stored.answers]
    encoded = batches_of(_OrWhyNot(examples), batches, workers_for(vlm.device))
    for turns, batch in zip(batches, encoded, strict=True):
        fitting = [one for one in batch if isinstance(one, Example)]
        rows: dict[str, list[Any]] = {}
        if fitting:
            with torch.inference_mode():
                found = log_probabilities(vlm, fitting, views, stored.by_token)
            for view, said in found.items():
                rows[f"sum/{view.answer}"] = said.sum.tolist()
                rows[f"tokens/{view.answer}"] = tokens = said.tokens.tolist()
                if said.by_token is not None:
                    each = zip(said.by_token.tolist(), tokens, strict=True)
                    rows[f"by_token/{view.answer}"] = [logps[:count] for logps, count in each]
        for name in _columns(stored.answers, stored.by_token):
            known = iter(rows.get(name, ()))
            rows[name] = [next(known) if isinstance(one, Example) else None for one in batch]
        yield {
            "id": [one.id if isinstance(one, Example) else one["id"] for one in batch],
            "epoch": [turn.epoch for turn in turns],
            "kept_out": [None if isinstance(one, Example) else json.dumps(one) for one in batch],
            **rows,
        }


@dataclass(eq=False)
class _OrWhyNot(Dataset[Example | dict[str, Any]]):
    """Returns why a pair cannot be given to the model (`Unfit.facts`) instead of raising it."""

    examples: Examples

    def __getitem__(self, turn: Turn) -> Example | dict[str, Any]:
        try:
            return self.examples[turn]
        except Unfit as error:
            return error.facts


def merge(output: Path, shards: Sequence[Path]) -> None:
    """Write what shards hold, given in the order of their numbers, as one file.

    Raises InputError when one is missing or damaged, they are not the shards of one whole, or the
    model cannot be given any of the pairs.
    """
    whole: dict[str, Any] = {}
    for number, shard in enumerate(shards):
        facts, _ = _facts(shard)
        place = {"shard": number, "shards": len(shards)}
        whole = whole or {name: fact for name, fact in facts.items() if name not in place}
        _refuse_others(shard, facts, whole | place)
    # A stable sort: epoch by epoch, in each all shards.
    table = pa.concat_tables(map(_read, shards)).sort_by("epoch")
    pairs = len(table) // whole["stored"]["epochs"]
    reasons = [Unfit(facts) for facts in _kept_out(table["kept_out"][:pairs]).values()]
    if reasons and len(reasons) == pairs:
        raise InputError(
            f"{output}: the model cannot be given any of the {pairs} pairs. The first: "
            f"{reasons[0]}. Raise training.max_length where it is given, or take other pairs or "
            "another model"
        )
    if reasons:
        say(f"reference: {len(reasons)} of {pairs} pairs are kept out. The first: {reasons[0]}")
    write_table(output, table, whole)


def write_table(path: Path, table: pa.Table, facts: Mapping[str, Any]) -> None:
    """Write a table with the facts it was made from, under the key `stored` what it holds."""
    table = table.combine_chunks().replace_schema_metadata({b"mmpref": json.dumps(facts)})
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


@dataclass(frozen=True)
class Known:
    """What the reference says of an answer of `tokens` tokens, in nats; `by_token` [tokens]."""

    sum: float
    tokens: int
    by_token: np.ndarray | None


@dataclass(frozen=True)
class Reference:
    """What the reference says of the views of a run, read by number.

    By image: the seed of the degraded ones, and so many epochs; by image and name: the columns.
    `kept_out` says by number which pairs the model cannot be given, and why (`Unfit.facts`).
    """

    pairs: int
    seeds: dict[str, int]
    epochs: dict[str, int]
    columns: dict[tuple[str, str], pa.Array]
    kept_out: dict[int, dict[str, Any]]

    def of(self, turn: Turn, view: View) -> Known:
        """Return what is known of a view at a pair's turn."""
        row = turn.number + self.pairs * min(turn.epoch, self.epochs[view.image] - 1)
        by_token = self.columns.get((view.image, f"by_token/{view.answer}"))
        return Known(
            self.columns[view.image, f"sum/{view.answer}"][row].as_py(),
            self.columns[view.image, f"tokens/{view.answer}"][row].as_py(),
            by_token[row].values.to_numpy() if by_token is not None else None,
        )


def read_reference(
    files: Sequence[Path],
    facts: Mapping[str, Any],
    pairs: int,
    views: Sequence[View],
    by_token: bool,
    epochs: int,
    max_length: int | None = None,
) -> Reference:
    """Read what the files hold of `views` of so many pairs in so many epochs.

    `max_length` is the study's limit for a pair. Raises InputError when a file is damaged or not
    made from `facts`, or none holds what is needed.
    """
    reference = Reference(pairs, {}, {}, {}, {})
    held = [(file, *_facts(file)) for file in files]
    for image in dict.fromkeys(view.image for view in views):
        found = [one for one in held if one[2].image == image]
        if not found:
            raise InputError(
                f"{', '.join(map(str, files)) or 'no files'}: nothing about the image {image}, "
                "which the objective looks at; compute its reference too"
            )
        file, made_from, stored = found[0]
        _refuse_others(file, made_from, {**facts, "stored": made_from["stored"]})
        answers = [view.answer for view in views if view.image == image]
        if missing := sorted(set(answers) - set(stored.answers)):
            raise _wrong(file, f"lacks the answer {', '.join(missing)}")
        if stored.max_length != max_length:
            said = f"keeps out pairs longer than {stored.max_length}, not {max_length}"
            raise _wrong(file, said)
        if by_token and not stored.by_token:
            raise _wrong(file, "lacks the log-probabilities of each token")
        if stored.seed is not None:
            reference.seeds[image] = stored.seed
            if stored.epochs < epochs:
                raise _wrong(file, f"has {stored.epochs} epochs where {epochs} are trained")
        columns = list(_columns(answers, by_token))
        table = _read(file, ["kept_out", *columns])
        if len(table) != pairs * stored.epochs:
            where = f"where {pairs} pairs in {stored.epochs} epochs are expected"
            raise _wrong(file, f"has {len(table)} rows {where}")
        reference.epochs[image] = stored.epochs
        # Arrow's own memory: a Python float for each would be six times as much.
        for name in columns:
            reference.columns[image, name] = table[name].combine_chunks()
        reference.kept_out.update(_kept_out(table["kept_out"][:pairs]))
    # Arrow would keep what it needed to unpack the files, three times as much.
    pa.default_memory_pool().release_unused()
    return reference


def _kept_out(rows: pa.ChunkedArray) -> dict[int, dict[str, Any]]:
    """Return by number why pairs are kept out, from the column of the first epoch."""
    return {number: json.loads(text) for number, text in enumerate(rows.to_pylist()) if text}


def _facts(path: Path) -> tuple[dict[str, Any], Stored]:
    try:
        facts = json.loads(_read(path, []).schema.metadata[b"mmpref"])
        return facts, Stored.model_validate_json(json.dumps(facts["stored"]))
    except (KeyError, TypeError, ValueError):
        what = "does not hold reference log-probabilities of this version"
        raise _wrong(path, what) from None


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except FileNotFoundError:
        raise InputError(f"{path}: does not exist; compute the reference first") from None
    except (pa.ArrowException, OSError) as error:
        raise _wrong(path, f"cannot be read as Parquet ({error})") from error


def _refuse_others(file: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    if differing := differences(found, wanted):
        raise _wrong(file, f"was made from something else ({'; '.join(differing)})")


def _wrong(file: Path, what: str) -> InputError:
    return InputError(f"{file}: {what}; remove it and compute the reference again")
