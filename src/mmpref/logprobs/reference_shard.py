"""Computing log-probabilities under the reference model, for a part of the pairs at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mmpref.fingerprint import fingerprint
from mmpref.journal import Journal
from mmpref.logprobs.examples import Examples, Turn, batches_of, workers_for
from mmpref.logprobs.forward import log_probabilities
from mmpref.logprobs.reference import origin, write_table
from mmpref.logprobs.views import View
from mmpref.models import VisionLanguageModel
from mmpref.progress import track
from mmpref.records.pairs import Pairs
from mmpref.study.reference import Stored

Row = dict[str, list[Any]]
"""An answer's sum, number of tokens and, on request, each token's own, by the answer's name."""


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

    Batches that are done are kept in a journal beside `output`, with which an interrupted call goes
    on; the result is the same to the last bit.

    Raises:
        InputError: model or pairs cannot be read, a pair is too long for the model, or lacks an
            answer.
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
    journal = output.with_suffix(".journal")
    results: dict[Turn, Row] = {}
    with Journal(journal, fingerprint({**facts, "batch_size": batch_size})) as done:
        for batch, entry in zip(batches, done.rows, strict=False):
            results.update(zip(batch, map(_compact, entry["rows"]), strict=True))
        todo = batches[len(done.rows) :]
        if todo:
            vlm = VisionLanguageModel.load(model, getattr(torch, dtype))
            seeds = {} if stored.seed is None else {stored.image: stored.seed}
            examples = Examples(vlm.processor, pairs, (stored.image,), stored.answers, seeds)
            label = f"reference, {stored.image}"
            found = track(_rows(vlm, examples, todo, stored), label, total=len(todo))
            for batch, rows in zip(todo, found, strict=True):
                done.append([{"rows": rows}])
                results.update(zip(batch, map(_compact, rows), strict=True))
    turns.sort(key=lambda turn: (turn.epoch, turn.number))
    ids = pairs.ids
    columns = {
        "id": pa.array([ids[turn.number] for turn in turns], pa.string()),
        "epoch": pa.array([turn.epoch for turn in turns], pa.int32()),
        **_columns([results[turn] for turn in turns], stored),
    }
    write_table(output, pa.table(columns), facts)
    journal.unlink()


def _rows(
    vlm: VisionLanguageModel,
    examples: Examples,
    batches: Sequence[list[Turn]],
    stored: Stored,
) -> Iterator[list[Row]]:
    """Yield the rows of each batch."""
    views = [View(answer, stored.image) for answer in stored.answers]
    with torch.inference_mode():
        for batch in batches_of(examples, batches, workers_for(vlm.device)):
            found = log_probabilities(vlm, batch, views, stored.by_token)
            rows: list[Row] = [{} for _ in batch]
            for view in views:
                said = found[view]
                for i, (total, tokens) in enumerate(
                    zip(said.sum.tolist(), said.tokens.tolist(), strict=True)
                ):
                    each = said.by_token[i, :tokens].tolist() if said.by_token is not None else None
                    rows[i][view.answer] = [total, tokens, each]
            yield rows


def _compact(row: Row) -> Row:
    """Return a row with its lists as arrays, a ninth of the memory."""
    return {
        answer: [total, tokens, None if each is None else np.array(each, np.float32)]
        for answer, (total, tokens, each) in row.items()
    }


def _columns(rows: Sequence[Row], stored: Stored) -> dict[str, pa.Array]:
    columns = {}
    kinds = [("sum", pa.float32()), ("tokens", pa.int32()), ("by_token", pa.list_(pa.float32()))]
    for answer in stored.answers:
        for place, (kind, type_) in enumerate(kinds[: 3 if stored.by_token else 2]):
            values = [row[answer][place] for row in rows]
            columns[f"{kind}/{answer}"] = pa.array(values, type_)
    return columns
