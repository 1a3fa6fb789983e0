"""Training: transformers' Trainer over DeepSpeed ZeRO, resumable at every moment."""

import fcntl
import json
import math
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from mmpref.errors import InputError
from mmpref.files import remove, replacing
from mmpref.fingerprint import fingerprint
from mmpref.logprobs.reference import ReferenceLogProbabilities, origin, read_reference
from mmpref.logprobs.views import CHOSEN, ORIGINAL, REJECTED, LogProbs, View
from mmpref.models import VisionLanguageModel
from mmpref.models.adapter import save_adapter, with_adapter
from mmpref.objectives import Objective
from mmpref.progress import say
from mmpref.randomness import seed_of
from mmpref.records.pairs import read_pairs
from mmpref.records.rows import Pair
from mmpref.study.runs import Run, Training
from mmpref.training.checkpoints import Checkpoint, Checkpoints, gather, restore
from mmpref.training.data import Order, PairDataset, Scored, unchanged
from mmpref.training.metrics import MetricsLog, peak_memory_mb
from mmpref.training.policy import Policy, said_by
from mmpref.training.processes import Processes

WITHOUT_INFLUENCE = (
    "gradient_checkpointing",
    "micro_batch_size",
    "nodes",
    "processes",
    "save_steps",
    "zero_stage",
)
"""Settings that change where and how fast a run is computed, and its result only to rounding."""


@dataclass(frozen=True)
class Files:
    """What a run is trained from (`degraded` where its objective looks at degraded images)."""

    model: Path
    pairs: Path
    answers: Path
    degraded: Path | None
    deepspeed: Path


def train(name: str, run: Run, seed: int, files: Files, output: Path) -> None:
    """Train a run and write to `output`: adapter/, metrics.jsonl, run.json, tensorboard/.

    Every process of the run calls this. Checkpoints lie in `output`/checkpoints until the run is
    finished; a run that was killed continues from the last one, with any number of processes.

    Raises:
        InputError: files are missing or do not belong together, another process trains this run,
            checkpoints are of other settings, or the loss is not finite any more.
    """
    if run.objective is None:
        raise InputError(f"runs.{name}: has no objective, so there is nothing to train")
    training = run.training
    processes = Processes.start()
    assert isinstance(run.objective, Objective)
    objective = run.objective
    pairs = read_pairs(files.pairs)
    order = Order(pairs, training.epochs, training.batch_size, seed)
    facts = processes.from_first(lambda: origin(files.pairs, files.model, training.dtype))
    kinds = {view.image for view in objective.views} - {ORIGINAL}
    kind = kinds.pop() if kinds else None
    reference = read_reference(facts, files.answers, files.degraded, kind, training.epochs)
    settings = settings_of(run, seed, facts, reference)
    unfinished = output / "checkpoints"
    work = unfinished / fingerprint(settings)
    with _locked(unfinished, processes.is_first):
        checkpoints = Checkpoints(work, settings)
        if processes.is_first:
            work.mkdir(parents=True, exist_ok=True)
            checkpoints.clean()
        processes.wait()
        checkpoint = checkpoints.latest()
        if checkpoint and processes.is_first:
            say(f"train: continuing after step {checkpoint.step} of {order.steps}")

        arguments = training_arguments(training, order.steps, seed, files, work, processes)
        dtype = getattr(torch, training.dtype)
        vlm = VisionLanguageModel.load(files.model, dtype, str(processes.device))
        policy = Policy(vlm, with_adapter(vlm, training, seed))
        if checkpoint is None or checkpoint.step < order.steps:
            metrics = None
            if processes.is_first:
                done = checkpoint.step if checkpoint else 0
                metrics = MetricsLog(
                    work / "metrics.jsonl", output / "tensorboard", done, order.steps
                )
            trainer = PreferenceTrainer(
                policy, arguments, objective, training, order, pairs, reference, processes
            )
            checkpoint = trainer.run(checkpoint, checkpoints, metrics)
        if processes.is_first:
            resolved = {"name": name, "seed": seed, "run": run.model_dump(mode="json")}
            resolved["fingerprint"] = work.name
            with replacing(output / "metrics.jsonl") as temporary:
                shutil.copyfile(work / "metrics.jsonl", temporary)
            with replacing(output / "run.json") as temporary:
                temporary.write_text(json.dumps(resolved, indent=2) + "\n", encoding="utf-8")
            # Last, for it says that the run is finished.
            save_adapter(output / "adapter", vlm, policy.adapted, checkpoint.weights)
            remove(unfinished)
        processes.wait()


def settings_of(
    run: Run, seed: int, facts: dict[str, Any], reference: ReferenceLogProbabilities
) -> dict[str, Any]:
    """Return everything a run's result depends on, JSON-like."""
    degradation = reference.degradation
    return {
        **facts,
        "seed": seed,
        "objective": run.objective.model_dump(mode="json") if run.objective else None,
        "training": run.training.model_dump(mode="json", exclude=set(WITHOUT_INFLUENCE)),
        "degradation_seed": degradation.seed if degradation else None,
    }


def training_arguments(
    training: Training, steps: int, seed: int, files: Files, work: Path, processes: Processes
) -> TrainingArguments:
    """Return the Trainer's settings; it neither logs nor saves by itself.

    Under ZeRO-3 they have to be alive while the model is loaded, which is then split at once.

    Raises:
        InputError: the DeepSpeed file is missing or is for another stage, or the batch cannot be
            shared by the processes.
    """
    per_pass = training.micro_batch_size * processes.count
    if training.batch_size % per_pass:
        raise InputError(
            f"training.batch_size {training.batch_size} is not a multiple of micro_batch_size x "
            f"processes = {per_pass}"
        )
    return TrainingArguments(
        output_dir=str(work),
        deepspeed=_deepspeed_config(files.deepspeed, training.zero_stage),
        use_cpu=processes.device.type == "cpu",
        bf16=training.dtype == "bfloat16",
        seed=seed_of(seed, "trainer") % 2**32,
        max_steps=steps,
        per_device_train_batch_size=training.micro_batch_size,
        gradient_accumulation_steps=training.batch_size // per_pass,
        learning_rate=training.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(training.warmup_ratio * steps),
        weight_decay=training.weight_decay,
        adam_beta2=training.adam_beta2,
        max_grad_norm=training.max_grad_norm,
        remove_unused_columns=False,
        label_names=[],
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        log_level="error",
    )


def _deepspeed_config(file: Path, stage: int) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as a DeepSpeed configuration: {error}") from None
    found = config.get("zero_optimization", {}).get("stage")
    if found != stage:
        raise InputError(
            f"{file}: is for ZeRO stage {found}, training.zero_stage is {stage}; "
            "give the file of that stage"
        )
    return config


class PreferenceTrainer(Trainer):
    """Trains a policy on scored pairs: the loss is the mean over the pairs of the global batch."""

    def __init__(
        self,
        policy: Policy,
        arguments: TrainingArguments,
        objective: Objective,
        training: Training,
        order: Order,
        pairs: list[Pair],
        reference: ReferenceLogProbabilities,
        processes: Processes,
    ) -> None:
        super().__init__(model=policy, args=arguments)
        # Prints the summary that Trainer ends with.
        self.remove_callback(PrinterCallback)
        self.policy = policy
        self.objective: Objective = objective
        self.training = training
        self.order = order
        self.dataset = PairDataset(policy.vlm, pairs, reference, objective.views)
        self.processes = processes
        self.done = 0
        self.seen: list[tuple[list[str], Tensor]] = []
        self.sums: list[Tensor] = []

    def run(
        self, checkpoint: Checkpoint | None, checkpoints: Checkpoints, metrics: MetricsLog | None
    ) -> Checkpoint:
        """Train to the end, from a checkpoint if there is one; return the state at the end.

        The first process, the one with `metrics`, gets the weights.
        """
        self.done = checkpoint.step if checkpoint else 0
        self.add_callback(_EveryStep(self, checkpoint, checkpoints, metrics))
        self.train()
        if metrics:
            metrics.close()
        return self.gather(self.order.steps)

    @property
    def engine(self) -> Any:
        """DeepSpeed's engine, while training."""
        return self.deepspeed

    @property
    def schedule(self) -> Any:
        """The learning rates' schedule, while training."""
        return self.lr_scheduler

    def gather(self, step: int) -> Checkpoint:
        """Return the state after a step; only the first process gets the content."""
        return gather(self.engine, self.policy.trained(), step, keep=self.processes.is_first)

    def get_train_dataloader(self) -> DataLoader:
        """Return this process's share of all remaining steps, in order."""
        micro_batches = self.order.micro_batches(
            self.training.micro_batch_size, self.processes.rank, self.processes.count, self.done
        )
        # On a CPU a loader would only take time from the model.
        workers = 2 if self.processes.device.type == "cuda" else 0
        return DataLoader(
            self.dataset,
            batch_sampler=micro_batches,
            collate_fn=unchanged,
            num_workers=workers,
        )

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Return AdamW with a rate of its own for the projector; biases do not decay."""
        if self.optimizer is None:
            groups: dict[tuple[float, float], list[nn.Parameter]] = {}
            for name, parameter in self.policy.trained().items():
                in_projector = ".modules_to_save." in name
                rate = self.training.projector_learning_rate if in_projector else None
                # ZeRO-3 leaves the parameter itself empty.
                is_matrix = len(getattr(parameter, "ds_shape", parameter.shape)) > 1
                decay = self.training.weight_decay if is_matrix else 0.0
                key = (rate or self.training.learning_rate, decay)
                groups.setdefault(key, []).append(parameter)
            self.optimizer = torch.optim.AdamW(
                [
                    {"params": parameters, "lr": rate, "weight_decay": decay}
                    for (rate, decay), parameters in groups.items()
                ],
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                eps=self.args.adam_epsilon,
            )
        return self.optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the mean loss of a micro batch, and note what is to be reported of it."""
        batch = cast(list[Scored], inputs)
        if self.training.lora_dropout:
            self._seed_dropout(len(self.seen))
        views = self.objective.views
        logps = said_by(model, [scored.example for scored in batch], views)
        reference = {
            view: LogProbs(
                torch.tensor([scored.reference[view] for scored in batch], device=self.args.device),
                logps[view].tokens,
            )
            for view in views
        }
        outcome = self.objective(logps, reference)
        rewards = outcome.rewards
        report = [
            outcome.losses.detach(),
            rewards[CHOSEN] > rewards[REJECTED],
            *(rewards[view] for view in views),
            *(logps[view].sum.detach() for view in views),
        ]
        self.seen.append(([scored.example.id for scored in batch], report[0]))
        tokens = sum(_tokens(scored, views) for scored in batch)
        sums = [values.double().sum() for values in report]
        self.sums.append(torch.stack([*sums, sums[0].new_tensor(tokens)]))
        loss = outcome.losses.mean()
        return (loss, logps) if return_outputs else loss

    def _seed_dropout(self, number: int) -> None:
        """Seed the draws of this process's pass `number` of a step by its place in the batch."""
        place = number * self.processes.count + self.processes.rank
        torch.manual_seed(seed_of(self.args.seed, "dropout", self.state.global_step, place))

    def step_metrics(self, learning_rate: float, seconds: float) -> dict[str, float]:
        """Return the metrics of the step that just ended, over all processes.

        Raises:
            InputError: the loss or the gradient is not finite.
        """
        local = torch.stack(self.sums).sum(dim=0)
        local = torch.cat([local, local.new_tensor([peak_memory_mb()])])
        table = self.processes.gather(local)
        totals = table.sum(dim=0).tolist()
        peak = table[:, -1].max().item()
        step = self.state.global_step
        grad_norm = float(self.engine.get_global_grad_norm())
        # DeepSpeed says -1 where the norm is not finite.
        if not math.isfinite(totals[0]) or not math.isfinite(grad_norm) or grad_norm < 0:
            raise InputError(self._not_finite(step))
        self.seen.clear()
        self.sums.clear()
        size = self.order.batch_size
        views = self.objective.views
        names = [
            "loss",
            "rewards/accuracy",
            *(f"rewards/{view}" for view in views),
            *(f"logps/{view}" for view in views),
        ]
        means = {name: total / size for name, total in zip(names, totals, strict=False)}
        return {
            "epoch": step * size / len(self.dataset),
            "learning_rate": learning_rate,
            "grad_norm": grad_norm,
            **means,
            "rewards/margin": means["rewards/chosen"] - means["rewards/rejected"],
            "tokens_per_second": totals[len(names)] / seconds,
            "peak_memory_mb": peak,
        }

    def _not_finite(self, step: int) -> str:
        bad = [
            pair_id
            for ids, losses in self.seen
            for pair_id, finite in zip(ids, losses.isfinite().tolist(), strict=True)
            if not finite
        ]
        everywhere = [pair_id for ids in self.processes.gather_objects(bad) for pair_id in ids]
        which = f"the loss of the pairs {', '.join(everywhere)}" if everywhere else "the gradient"
        return (
            f"step {step}: {which} is not finite. Look at these pairs, or lower "
            "training.learning_rate (checkpoints from before this step are kept)"
        )


def _tokens(scored: Scored, views: tuple[View, ...]) -> int:
    """Return how many tokens a pair's rows have: each prompt once, and each view's answer."""
    prompts = sum(map(len, scored.example.prompts.values()))
    return prompts + sum(len(scored.example.answers[view.answer]) for view in views)


class _EveryStep(TrainerCallback):
    """Restores at the start; reports and saves at the end of every optimiser step."""

    def __init__(
        self,
        trainer: PreferenceTrainer,
        checkpoint: Checkpoint | None,
        checkpoints: Checkpoints,
        metrics: MetricsLog | None,
    ) -> None:
        self.trainer = trainer
        self.checkpoint = checkpoint
        self.checkpoints = checkpoints
        self.metrics = metrics
        self.learning_rate = 0.0
        self.last = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        engine = self.trainer.engine
        if not engine.zero_optimization():
            engine.clip_fp32_gradients = lambda: _clip(engine, self.trainer.policy.trained())
        if self.checkpoint:
            restore(self.trainer.engine, self.trainer.policy.trained(), self.checkpoint)
            state.global_step = self.checkpoint.step
            self.trainer.schedule.last_epoch = self.checkpoint.step - 1
            with warnings.catch_warnings(action="ignore"):  # that no optimiser step came before
                self.trainer.schedule.step()
        self.last = time.monotonic()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.learning_rate = self.trainer.schedule.get_last_lr()[0]

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        now = time.monotonic()
        metrics = self.trainer.step_metrics(self.learning_rate, now - self.last)
        self.last = now
        if self.metrics:
            self.metrics.write(state.global_step, metrics)
        if state.global_step % self.trainer.training.save_steps == 0:
            checkpoint = self.trainer.gather(state.global_step)
            if self.metrics:
                self.checkpoints.save(checkpoint)


def _clip(engine: Any, parameters: dict[str, nn.Parameter]) -> None:
    """Clip the gradients of an engine of stage 0, which would not keep their norm."""
    norm = nn.utils.clip_grad_norm_(parameters.values(), engine.gradient_clipping())
    engine._global_grad_norm = norm.item()


@contextmanager
def _locked(folder: Path, is_first: bool) -> Iterator[None]:
    """Let one training at a time into a folder; the lock ends with the process."""
    if not is_first:
        yield
        return
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
