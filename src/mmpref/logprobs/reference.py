"""Log-probabilities under the reference model, computed once and stored.

Training never loads or runs the reference: it reads these files. Each says in its Parquet metadata
what it was made from, and is refused where it does not belong.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mmpref.errors import InputError
from mmpref.files import replacing, sha256
from mmpref.fingerprint import differences, model_identity
from mmpref.logprobs.degradation import degraded_images
from mmpref.logprobs.encoding import encode
from mmpref.logprobs.forward import Example, log_probabilities
from mmpref.logprobs.views import CHOSEN, ORIGINAL, REJECTED, View
from mmpref.models import VisionLanguageModel
from mmpref.progress import track
from mmpref.records.images import open_image
from mmpref.records.pairs import read_pairs
from mmpref.records.rows import Pair

METADATA_KEY = b"mmpref"
ANSWERS = ("chosen", "rejected")
DEGRADED = "chosen_degraded_image"


@dataclass(frozen=True)
class Degradation:
    """How images are degraded (`kind`), by which study's seed, and in how many epochs."""

    kind: str
    seed: int
    epochs: int


@dataclass(frozen=True)
class ReferenceLogProbabilities:
    """What the reference says of every pair, in nats.

    `answers` has it by view and pair id, `degraded` by pair id and epoch.
    """

    answers: dict[str, dict[str, float]]
    degradation: Degradation | None = None
    degraded: dict[tuple[str, int], float] = field(default_factory=dict)

    def of(self, pair_id: str, view: View, epoch: int) -> float:
        """Return the log-probability of a view of a pair in an epoch."""
        if view.image != ORIGINAL:
            return self.degraded[pair_id, epoch]
        return self.answers[view.answer][pair_id]


def compute(
    output: Path,
    model: Path,
    pairs_file: Path,
    dtype: str,
    batch_size: int,
    degradation: Degradation | None = None,
) -> None:
    """Write the log-probabilities of a file of pairs under a model, `batch_size` at a time.

    Without `degradation` those of the answers, with it those under degraded images.

    Raises:
        InputError: model or pairs cannot be read, or a pair is too long for the model.
    """
    pairs = read_pairs(pairs_file)
    facts = origin(pairs_file, model, dtype)
    vlm = VisionLanguageModel.load(model, getattr(torch, dtype))
    if degradation:
        write_degraded(output, vlm, pairs, facts, batch_size, degradation)
    else:
        write_answers(output, vlm, pairs, facts, batch_size)


def origin(pairs_file: Path, model: Path, dtype: str) -> dict[str, Any]:
    """Return what log-probabilities of a file of pairs under a model depend on."""
    return {"pairs": sha256(pairs_file), "model": model_identity(model), "dtype": dtype}


def write_answers(
    path: Path,
    vlm: VisionLanguageModel,
    pairs: Sequence[Pair],
    facts: dict[str, Any],
    batch_size: int,
) -> None:
    """Write log pi_ref of the chosen and the rejected answer of every pair.

    The file has the columns `id`, `chosen`, `rejected` and a row per pair, in order; `facts` say
    what it was made from.
    """

    def example(number: int) -> Example:
        pair = pairs[number]
        return encode(vlm.processor, pair, {"original": [open_image(data) for data in pair.images]})

    sizes = [len(pair.chosen) + len(pair.rejected) for pair in pairs]
    logps = _in_batches(vlm, example, sizes, (CHOSEN, REJECTED), batch_size, "reference, answers")
    _write(
        path,
        {"id": [pair.id for pair in pairs], **{view.answer: logps[view] for view in logps}},
        facts,
    )


def write_degraded(
    path: Path,
    vlm: VisionLanguageModel,
    pairs: Sequence[Pair],
    facts: dict[str, Any],
    batch_size: int,
    degradation: Degradation,
) -> None:
    """Write log pi_ref of the chosen answers under the degraded image of every pair and epoch.

    The file has the columns `id`, `epoch`, `chosen_degraded_image` and a row per pair and epoch,
    epochs in order.
    """
    kind, seed = degradation.kind, degradation.seed
    turns = [(epoch, pair) for epoch in range(degradation.epochs) for pair in pairs]

    def example(number: int) -> Example:
        epoch, pair = turns[number]
        return encode(vlm.processor, pair, {kind: degraded_images(kind, pair, pairs, seed, epoch)})

    sizes = [len(pair.chosen) for _, pair in turns]
    views = (View("chosen", kind),)
    logps = _in_batches(vlm, example, sizes, views, batch_size, f"reference, {kind}")
    columns: dict[str, list[Any]] = {
        "id": [pair.id for _, pair in turns],
        "epoch": [epoch for epoch, _ in turns],
        DEGRADED: logps[views[0]],
    }
    _write(path, columns, {**facts, "degradation": asdict(degradation)})


def read_reference(
    facts: dict[str, Any], answers: Path, degraded: Path | None, kind: str | None, epochs: int
) -> ReferenceLogProbabilities:
    """Read the files, the second where images of `kind` are needed for so many epochs.

    Raises:
        InputError: a file is missing, damaged, or was made from something else than `facts` say.
    """
    table, found = _read(answers)
    _refuse_others(answers, found, facts)
    columns = {view: dict(zip(table["id"], table[view], strict=True)) for view in ANSWERS}
    if kind is None:
        return ReferenceLogProbabilities(columns)
    if degraded is None:
        raise InputError(
            f"the objective looks at a degraded image ({kind}): its reference is needed too"
        )
    table, found = _read(degraded)
    degradation = Degradation(**found.pop("degradation", {"kind": "none", "seed": 0, "epochs": 0}))
    _refuse_others(degraded, {**found, "kind": degradation.kind}, {**facts, "kind": kind})
    if degradation.epochs < epochs:
        raise InputError(
            f"{degraded}: has {degradation.epochs} epochs, {epochs} are trained; "
            "compute the reference again"
        )
    turns = zip(table["id"], table["epoch"], strict=True)
    logps = dict(zip(turns, table[DEGRADED], strict=True))
    return ReferenceLogProbabilities(columns, degradation, logps)


def _refuse_others(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    differing = differences(found, wanted)
    if differing:
        raise InputError(
            f"{path}: was made from something else ({'; '.join(differing)}); "
            "remove the file and compute the reference again"
        )


def _in_batches(
    vlm: VisionLanguageModel,
    example: Callable[[int], Example],
    sizes: Sequence[int],
    views: Sequence[View],
    batch_size: int,
    what: str,
) -> dict[View, list[float]]:
    """Return log-probabilities by view, one for each of `sizes`, the largest computed first."""
    order = sorted(range(len(sizes)), key=lambda number: -sizes[number])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    logps = {view: [0.0] * len(sizes) for view in views}
    with torch.inference_mode():
        for numbers in track(batches, what, total=len(batches)):
            table = log_probabilities(vlm, [example(number) for number in numbers], views)
            for view in views:
                for number, logp in zip(numbers, table[view].sum.tolist(), strict=True):
                    logps[view][number] = logp
    return logps


def _write(path: Path, columns: dict[str, list[Any]], facts: dict[str, Any]) -> None:
    table = pa.table(columns).replace_schema_metadata({METADATA_KEY: json.dumps(facts)})
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def _read(path: Path) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise InputError(f"{path}: does not exist; compute the reference first") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error}); make it again") from error
    metadata = (table.schema.metadata or {}).get(METADATA_KEY)
    if metadata is None:
        raise InputError(f"{path}: no log-probabilities of a reference; make it again")
    return table.to_pydict(), json.loads(metadata)
