"""Training a run: from its files to an adapter, resumable at every moment."""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from mmpref.errors import InputError
from mmpref.files import remove, replacing
from mmpref.fingerprint import fingerprint
from mmpref.logprobs.examples import CACHE_BYTES, Examples, batches_of, workers_for
from mmpref.logprobs.reference import origin, read_reference
from mmpref.models import VisionLanguageModel
from mmpref.models.adapter import save_adapter, with_adapter
from mmpref.objectives.objective import Objective
from mmpref.progress import say
from mmpref.records.pairs import Pairs
from mmpref.study.runs import Run, Training
from mmpref.training.checkpoints import Checkpoints
from mmpref.training.data import Order, PairDataset
from mmpref.training.deepspeed_internals import loading
from mmpref.training.loop import Loop
from mmpref.training.metrics import MetricsLog
from mmpref.training.policy import Policy
from mmpref.training.processes import Processes

WITHOUT_INFLUENCE = {
    "gradient_checkpointing",
    "micro_batch_size",
    "nodes",
    "processes",
    "save_steps",
    "zero_stage",
}
"""Settings that change where and how fast a run is computed, and its result only to rounding."""


@dataclass(frozen=True)
class Files:
    """What a run is trained from; `reference` has a file for each image the objective looks at."""

    model: Path
    pairs: Path
    reference: tuple[Path, ...]
    deepspeed: Path


def train(name: str, run: Run, seed: int, files: Files, output: Path) -> None:
    """Train a run and write to `output`: adapter/, metrics.jsonl, run.json, tensorboard/.

    `kept_out.jsonl` there lists the pairs that the model cannot be given (`Unfit.facts`), `pairs`
    in run.json counts them.

    Every process of the run calls this. Checkpoints lie in `output`/checkpoints until the run is
    finished; a run that was killed continues from the last one, with any number of processes.

    Raises:
        InputError: files are missing or do not belong together, another process trains this run,
            checkpoints are of other settings, or the loss is not finite any more.
    """
    objective, training = run.objective, run.training
    if not isinstance(objective, Objective):
        raise InputError(f"runs.{name}: has no objective to train with; give it one")
    processes = Processes.start()
    pairs = Pairs(files.pairs)
    facts = processes.from_first(lambda: origin(files.pairs, files.model, training.dtype))
    reference = read_reference(
        files.reference,
        facts,
        len(pairs),
        objective.views,
        objective.by_token,
        training.epochs,
        training.max_length,
    )
    lengths, kept_out = pairs.answer_lengths.tolist(), reference.kept_out
    order = Order(lengths, training.epochs, training.batch_size, seed, kept_out)
    config = deepspeed_config(files.deepspeed, training, processes)
    settings = {
        **facts,
        "seed": seed,
        "objective": objective.model_dump(mode="json"),
        "training": training.model_dump(mode="json", exclude=WITHOUT_INFLUENCE),
        "degradation_seed": next(iter(reference.seeds.values()), None),
    }
    unfinished = output / "checkpoints"
    work = unfinished / fingerprint(settings)
    with _locked(unfinished) if processes.is_first else nullcontext():
        checkpoints = Checkpoints(work, settings)
        if processes.is_first:
            work.mkdir(parents=True, exist_ok=True)
            checkpoints.clean()
        processes.wait()
        checkpoint = checkpoints.latest()
        done = checkpoint.step if checkpoint else 0
        if checkpoint and processes.is_first:
            say(f"train: continuing after step {done} of {order.steps}")
        with loading(config):
            dtype = getattr(torch, training.dtype)
            vlm = VisionLanguageModel.load(files.model, dtype, str(processes.device))
            policy = Policy(vlm, with_adapter(vlm, training, seed))
        loop = Loop(policy, objective, training, order.steps, seed, config, processes, checkpoint)
        workers = workers_for(processes.device)
        examples = Examples(
            vlm.processor,
            pairs,
            images=list(dict.fromkeys(view.image for view in objective.views)),
            answers=list(dict.fromkeys(view.answer for view in objective.views)),
            seeds=reference.seeds,
            free_bytes=CACHE_BYTES // (processes.on_this_machine * max(1, workers)),
            max_length=training.max_length,
        )
        dataset = PairDataset(examples, reference, objective.views)
        turns = order.micro_batches(
            training.micro_batch_size, processes.rank, processes.count, done
        )
        passes = batches_of(dataset, turns, workers)
        each = config["gradient_accumulation_steps"]
        batches = (islice(passes, each) for _ in range(done, order.steps))
        log = None
        if processes.is_first:
            board = output / "tensorboard"
            log = MetricsLog(work / "metrics.jsonl", board, done, order.steps)
        end = loop.run(batches, order.pairs, checkpoints, log)
        if log:
            log.close()
            resolved = {"name": name, "seed": seed, "run": run.model_dump(mode="json")}
            resolved["fingerprint"] = work.name
            resolved["pairs"] = {"read": len(pairs), "kept_out": len(kept_out)}
            with replacing(output / "kept_out.jsonl") as temporary:
                lines = [json.dumps(facts, ensure_ascii=False) for facts in kept_out.values()]
                temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            with replacing(output / "metrics.jsonl") as temporary:
                shutil.copyfile(work / "metrics.jsonl", temporary)
            with replacing(output / "run.json") as temporary:
                temporary.write_text(json.dumps(resolved, indent=2) + "\n", encoding="utf-8")
            # Last, for it says that the run is finished.
            save_adapter(output / "adapter", vlm, policy.adapted, end.weights)
            remove(unfinished)
        processes.wait()


def deepspeed_config(file: Path, training: Training, processes: Processes) -> dict[str, Any]:
    """Return DeepSpeed's configuration: the file's, and what follows from the run.

    Raises:
        InputError: the file is missing or damaged, is for another stage or sets what follows from
            the run, or the batch cannot be shared by the processes.
    """
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as a DeepSpeed configuration: {error}") from None
    found = config.get("zero_optimization", {}).get("stage")
    if found != training.zero_stage:
        raise InputError(
            f"{file}: is for ZeRO stage {found}, but training.zero_stage is {training.zero_stage}; "
            "give the file of that stage"
        )
    per_pass = training.micro_batch_size * processes.count
    if training.batch_size % per_pass:
        raise InputError(
            f"training.batch_size {training.batch_size} is not a multiple of micro_batch_size x "
            f"processes = {per_pass}"
        )
    ours = {
        "train_batch_size": training.batch_size,
        "train_micro_batch_size_per_gpu": training.micro_batch_size,
        "gradient_accumulation_steps": training.batch_size // per_pass,
        "gradient_clipping": training.max_grad_norm,
        "bf16": {"enabled": training.dtype == "bfloat16"},
    }
    if taken := sorted(set(ours) & set(config)):
        raise InputError(
            f"{file}: sets {', '.join(taken)}, which follows from the study; remove it there"
        )
    return {**config, **ours}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one training at a time into a folder; the lock ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder.parent}: another process is training this run; wait for it or end it"
            ) from None
        except OSError:
            say(f"train: {folder}: this file system has no locks; start each run once only")
        yield
