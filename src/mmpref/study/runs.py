"""Runs: a model, trained on preferences or as it is."""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from mmpref.study.parts import Count, DegradedImage, Name, Part, Positive, Share
from mmpref.study.registry import OneOf

ORIGINAL = "original"
IMAGES = (ORIGINAL, *get_args(DegradedImage))
ANSWER = re.compile(r"chosen|rejected(_([2-9]|[1-9]\d+))?")
"""Names of answers that a pair may have."""


class Training(Part):
    """How a run is trained; given at the top of a study it is the default of all runs."""

    epochs: Count = 3
    batch_size: Count = Field(32, description="pairs per optimiser step, over all processes")
    micro_batch_size: Count = Field(4, description="pairs per process and forward pass")
    learning_rate: Positive = 1e-5
    projector_learning_rate: Positive | None = Field(
        None, description="train the projector too, at this rate; default: frozen"
    )
    weight_decay: float = Field(0.0, ge=0)
    adam_beta2: float = Field(0.999, gt=0, lt=1)
    warmup_ratio: Share = 0.1
    max_grad_norm: Positive = 1.0
    lora_rank: Count = 64
    lora_alpha: Count = 128
    lora_dropout: Share = 0.0
    dtype: Literal["float32", "bfloat16"] = Field(
        "bfloat16", description="of the whole study: sampling, reference, policy and answers"
    )
    max_length: Count | None = Field(
        None,
        description="of the whole study: pairs with more tokens (image, prompt and the longest "
        "answer) are kept out; default: only those that the model cannot look back over",
    )
    gradient_checkpointing: bool = False
    zero_stage: Literal[0, 1, 2, 3] = Field(2, description="config/deepspeed/zeroN.json")
    save_steps: Count = Field(100, description="optimiser steps between checkpoints")
    nodes: Count = Field(1, description="machines")
    processes: Count = Field(1, description="processes per machine, one for each GPU")

    @model_validator(mode="after")
    def _stage_0(self) -> "Training":
        if self.zero_stage == 0 and self.dtype == "bfloat16":
            raise ValueError(
                "zero_stage 0 is for float32: in bfloat16 DeepSpeed would take a step before the "
                "first one; give 1, 2 or 3"
            )
        return self


class Run(Part):
    """A model, trained or (without objective) as it is."""

    model: Name = Field(description="a name under `models`")
    preferences: Name | None = Field(None, description="a name under `preferences`")
    objective: Annotated[Part, OneOf("mmpref.objectives", "name")] | None = Field(
        None, description="none: the model itself is scored"
    )
    training: Training = Field(
        default_factory=Training, description="what differs from the study's `training`"
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        default_factory=lambda: [0], min_length=1, description="one training each"
    )

    @property
    def for_one_seed(self) -> "Run":
        """The run without its seeds: one more of them changes no training."""
        return self.model_copy(update={"seeds": [0]})

    @property
    def views(self) -> tuple[Any, ...]:
        """The views (`mmpref.logprobs.views`) that the objective needs; none without one."""
        return tuple(getattr(self.objective, "views", ()))

    @property
    def by_token(self) -> bool:
        """Whether the objective needs each token's log-probability."""
        return bool(getattr(self.objective, "by_token", False))

    @model_validator(mode="after")
    def _whole(self) -> "Run":
        for view in self.views:
            if not ANSWER.fullmatch(view.answer):
                raise ValueError(
                    f"the objective asks for the answer {view.answer!r}, which pairs do not have; "
                    "valid are: chosen, rejected, rejected_2, rejected_3, ..."
                )
            if view.image not in IMAGES:
                raise ValueError(
                    f"the objective asks for the image {view.image!r}, which no stage makes; "
                    f"valid are: {', '.join(IMAGES)}"
                )
        if (self.objective is None) != (self.preferences is None):
            raise ValueError("give both `objective` and `preferences`, or neither")
        if self.objective is None and len(self.seeds) > 1:
            raise ValueError("without an objective nothing is drawn; give one seed")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"duplicate seed in {self.seeds}; give each seed once")
        training = self.training
        per_pass = training.micro_batch_size * training.processes * training.nodes
        if training.batch_size % per_pass:
            raise ValueError(
                f"training.batch_size {training.batch_size} is not a multiple of "
                f"micro_batch_size x processes x nodes = {per_pass}"
            )
        return self
