"""The training loop: batch, views, objective, step, metrics, checkpoint."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from mmpref.errors import InputError
from mmpref.logprobs.reference import Known
from mmpref.logprobs.views import CHOSEN, REJECTED, LogProbs
from mmpref.objectives.objective import Objective
from mmpref.randomness import seed_of
from mmpref.study.runs import Training
from mmpref.training import deepspeed_internals
from mmpref.training.checkpoints import Checkpoint, Checkpoints
from mmpref.training.data import Scored
from mmpref.training.metrics import MetricsLog, peak_memory_mb
from mmpref.training.policy import Policy, said_by
from mmpref.training.processes import Processes

Report = tuple[list[str], dict[str, Tensor]]
"""Of a pass of B pairs: their ids, and by name the values [B] to be summed up."""


class Loop:
    """A policy that learns from batches, `steps` of them; every process of a run has one.

    The loss of a step is the mean over the pairs of its batch, which the processes share. `config`
    is DeepSpeed's; with a `checkpoint` the loop goes on after it.
    """

    def __init__(
        self,
        policy: Policy,
        objective: Objective,
        training: Training,
        steps: int,
        seed: int,
        config: dict[str, Any],
        processes: Processes,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.policy = policy
        self.objective = objective
        self.training = training
        self.steps = steps
        self.processes = processes
        self.dropout_seed = seed_of(seed, "trainer") % 2**32
        self.optimizer = adamw(policy.trained(), training)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.engine = deepspeed_internals.start(policy, self.optimizer, config)
        self.done = 0
        if checkpoint:
            deepspeed_internals.restore(self.engine, policy.trained(), checkpoint)
            self.done = checkpoint.step

    def run(
        self,
        batches: Iterable[Iterable[Sequence[Scored]]],
        pairs: int,
        checkpoints: Checkpoints,
        log: MetricsLog | None,
    ) -> Checkpoint:
        """Take a step on each batch, given as this process's passes; return the state at the end.

        An epoch is so many `pairs`. The process that has the log, the first one, writes metrics and
        checkpoints, and gets the content of the state.

        Raises:
            InputError: the loss or the gradient is not finite any more.
        """
        for batch in batches:
            metrics = self.step(batch)
            if log:
                epoch = self.done * self.training.batch_size / pairs
                log.write(self.done, {"epoch": epoch, **metrics})
            if self.done % self.training.save_steps == 0:
                checkpoint = self.state()
                if log:
                    checkpoints.save(checkpoint)
        return self.state()

    def step(self, passes: Iterable[Sequence[Scored]]) -> dict[str, float]:
        """Take one optimiser step on this process's passes; return the metrics of all processes.

        Raises:
            InputError: the loss or the gradient is not finite.
        """
        start = time.monotonic()
        share = cosine(self.done, self.steps, self.training.warmup_ratio)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share
        self.engine.train()
        reports = [self._pass(number, batch) for number, batch in enumerate(passes)]
        self.done += 1
        norm = float(self.engine.get_global_grad_norm())
        seconds = time.monotonic() - start
        totals = self._totals(reports)
        # DeepSpeed says -1 where the norm is not finite.
        if not math.isfinite(totals["loss"]) or not math.isfinite(norm) or norm < 0:
            self._raise_not_finite(reports)
        pairs, tokens, peak = (totals.pop(name) for name in ("pairs", "tokens", "peak_memory_mb"))
        means = {name: total / pairs for name, total in totals.items()}
        if "rewards/accuracy" in means:
            means["rewards/margin"] = means[f"rewards/{CHOSEN}"] - means[f"rewards/{REJECTED}"]
        speed = {"tokens_per_second": tokens / seconds, "peak_memory_mb": peak}
        return {"learning_rate": self.rates[0] * share, "grad_norm": norm, **means, **speed}

    def state(self) -> Checkpoint:
        """Return the state after the last step; only the first process gets the content."""
        keep = self.processes.is_first
        return deepspeed_internals.gather(self.engine, self.policy.trained(), self.done, keep)

    def _pass(self, number: int, batch: Sequence[Scored]) -> Report:
        """Go forward and backward with a step's pass `number`; the engine steps after the last.

        Does not wait for a GPU.
        """
        if self.training.lora_dropout:
            # The draws belong to the place in the batch, whatever process works on it.
            place = number * self.processes.count + self.processes.rank
            torch.manual_seed(seed_of(self.dropout_seed, "dropout", self.done, place))
        views = self.objective.views
        examples = [scored.example for scored in batch]
        policy = said_by(self.engine, examples, views, self.objective.by_token)
        reference = {
            view: batched([scored.reference[view] for scored in batch], self.processes.device)
            for view in views
        }
        outcome = self.objective(policy, reference)
        self.engine.backward(outcome.losses.mean())
        self.engine.step()
        losses, rewards = outcome.losses.detach(), outcome.rewards
        values = {"loss": losses}
        if CHOSEN in rewards and REJECTED in rewards:
            values["rewards/accuracy"] = rewards[CHOSEN] > rewards[REJECTED]
        values |= {f"rewards/{view}": reward for view, reward in rewards.items()}
        values |= {f"logps/{view}": said.sum.detach() for view, said in policy.items()}
        values["pairs"] = torch.ones_like(losses)
        # Each prompt is in a row once, with all its answers.
        prompts = [sum(map(len, example.prompts.values())) for example in examples]
        answers = torch.stack([said.tokens for said in policy.values()]).sum(dim=0)
        values["tokens"] = answers + answers.new_tensor(prompts)
        return [example.id for example in examples], values

    def _totals(self, reports: Sequence[Report]) -> dict[str, float]:
        """Return the sums over all pairs of a step, and the most memory that a process has held."""
        sums = [
            torch.stack([one.double().sum() for one in values.values()]) for _, values in reports
        ]
        mine = torch.stack(sums).sum(dim=0).cpu()
        everyones, peaks = zip(*self.processes.gather((mine, peak_memory_mb())), strict=True)
        totals = torch.stack(everyones).sum(dim=0).tolist()
        return dict(zip(reports[0][1], totals, strict=True)) | {"peak_memory_mb": max(peaks)}

    def _raise_not_finite(self, reports: Sequence[Report]) -> NoReturn:
        bad = [
            pair_id
            for ids, values in reports
            for pair_id, finite in zip(ids, values["loss"].isfinite().tolist(), strict=True)
            if not finite
        ]
        everywhere = [pair_id for ids in self.processes.gather(bad) for pair_id in ids]
        which = f"the loss of the pairs {', '.join(everywhere)}" if everywhere else "the gradient"
        raise InputError(
            f"step {self.done}: {which} is not finite; look at these pairs, or lower "
            "training.learning_rate (checkpoints from before this step are kept)"
        )


def batched(known: Sequence[Known], device: torch.device) -> LogProbs:
    """Return what the reference says of a view of a batch, as the policy's is."""
    sums = torch.tensor([one.sum for one in known], device=device)
    tokens = torch.tensor([one.tokens for one in known], device=device)
    each = [torch.tensor(one.by_token) for one in known if one.by_token is not None]
    padded = nn.utils.rnn.pad_sequence(each, batch_first=True).to(device) if each else None
    return LogProbs(sums, tokens, padded)


def adamw(parameters: Mapping[str, nn.Parameter], training: Training) -> torch.optim.AdamW:
    """Return AdamW with a rate of its own for the projector; biases do not decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        in_projector = ".modules_to_save." in name
        rate = training.projector_learning_rate if in_projector else None
        decay = training.weight_decay if deepspeed_internals.is_matrix(parameter) else 0.0
        groups.setdefault((rate or training.learning_rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": together, "lr": rate, "weight_decay": decay}
            for (rate, decay), together in groups.items()
        ],
        betas=(0.9, training.adam_beta2),
    )


def cosine(step: int, steps: int, warmup_ratio: float) -> float:
    """Return the share of the learning rate at a step (from 0): linear warm-up, half a cosine.

    As `get_cosine_schedule_with_warmup` of transformers, with the warm-up's steps rounded up.
    """
    warmup = math.ceil(warmup_ratio * steps)
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
