"""The study: one YAML file, typed and checked before anything runs.

The JSON schema (`config/schema.json`) and the table in `config/README.md` are generated from these
classes by `python -m mmpref.study`; a test fails when they drift.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mmpref.errors import InputError

NAME_RULE = "lower-case letters, digits, - and _ (it becomes part of file names)"
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]

BenchmarkName = Literal[
    "amber",
    "amber-generative",
    "amber-discriminative",
    "amber-existence",
    "amber-attribute",
    "amber-relation",
    "chair",
    "gqa",
    "llava-bench-coco",
    "llava-bench-in-the-wild",
    "mm-vet",
    "mmhal",
    "mmhal-v",
    "object-halbench",
    "pope-coco",
    "pope-coco-random",
    "pope-coco-popular",
    "pope-coco-adversarial",
    "pope-coco-random-2910",
    "pope-aokvqa",
    "pope-aokvqa-random",
    "pope-aokvqa-popular",
    "pope-aokvqa-adversarial",
    "pope-gqa",
    "pope-gqa-random",
    "pope-gqa-popular",
    "pope-gqa-adversarial",
    "textvqa",
    "vqav2",
]
# Judged by a model always; Object HalBench has rules to do without.
JUDGED = ("llava-bench-coco", "llava-bench-in-the-wild", "mm-vet", "mmhal", "mmhal-v")

DegradedImage = Literal[
    "crop_0_20", "crop_20_50", "other_image", "moco_v2", "black", "diffusion_500"
]
DEGRADED_IMAGES: tuple[str, ...] = get_args(DegradedImage)


class Part(BaseModel):
    """A part of a study: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ToyModel(Part):
    """The built-in model: pretrained by the workflow on the toy world's captions and questions."""

    source: Literal["toyworld"]
    scenes: Count = Field(6000, description="scenes to pretrain on")
    vision_steps: Count = Field(700, description="optimiser steps of the vision tower")
    steps: Count = Field(700, description="optimiser steps of projector and language model")
    biased_captions: Share = Field(
        0.6, description="how often a caption mentions one of the likeliest objects that are absent"
    )


class AssembledModel(Part):
    """A LLaVA put together from a language model in GGUF and a new, untrained vision tower."""

    source: Literal["assembled"]
    package: str = Field(description="installed Python package that carries the GGUF file")
    file: str = Field(description="the GGUF file inside the package")


class LocalModel(Part):
    """A model folder of one's own, in the format of transformers (safetensors)."""

    source: Literal["local"]
    folder: str = Field(description="folder with config.json, weights and processor")


class ToyDataset(Part):
    """Pairs of the toy world: a true caption, and the same with one object that is not there."""

    source: Literal["toyworld"]
    pairs: Count = Field(description="how many pairs")
    yesno_share: Share = Field(0.1, description="share of pairs that are yes/no questions")


class LocalDataset(Part):
    """Pairs of one's own: a JSON Lines, CSV or Parquet file with image paths."""

    source: Literal["local"]
    file: str = Field(description="path of the file")
    images: str | None = Field(None, description="folder of the images; default: the file's")
    columns: dict[str, str] = Field(
        default_factory=dict, description="own column names, for example {prompt: question}"
    )


class Bdhs(Part):
    """Bias-driven hallucination sampling of rejected answers (attention variant)."""

    model: Name = Field(description="the model that samples, a name under `models`")
    mask_ratio: Share = Field(0.99, description="share of image tokens hidden (rho_th)")
    iterations: Count = Field(5, description="tries, the last one without guidance (N_BDHS)")
    encoder: str = Field(
        "minilm", description="similarity: `exact`, `minilm`, or the folder of a sentence encoder"
    )
    similarity_threshold: float = Field(
        0.97, ge=-1, le=1, description="an answer less similar than this is accepted (eps_s)"
    )
    temperature: float = Field(1.0, ge=0, description="0 is greedy")
    top_p: Share = Field(1.0, gt=0, description="nucleus of the sampled tokens")
    max_new_tokens: Count = Field(64, description="limit of a completed sentence, in tokens")
    shards: Count = Field(1, description="jobs the sampling is split into")
    batch_size: Count = Field(16, description="answers sampled at the same time")


class Preferences(Part):
    """The pairs a run trains on: a dataset's own, or with rejected answers sampled anew."""

    dataset: Name = Field(description="a name under `datasets`")
    bdhs: Bdhs | None = Field(None, description="sample the rejected answers")


class DPOObjective(Part):
    """Direct preference optimisation."""

    name: Literal["dpo"]
    beta: Positive = 0.1


class MDPOObjective(Part):
    """Multimodal DPO with the switches of the paper's ablations."""

    name: Literal["mdpo"]
    beta: Positive = 0.1
    conditional: bool = Field(True, description="the preference of original over degraded image")
    anchor: bool = Field(True, description="keep the chosen answer's reward above the anchor value")
    anchor_value: float = Field(0.0, description="delta in the paper")
    anchor_rejected: bool = Field(False, description="push the rejected answer's reward below it")
    anchor_degraded_image: bool = Field(False, description="the same for the degraded image")
    degraded_image: DegradedImage = Field("crop_0_20", description="how the image is degraded")


Objective = Annotated[DPOObjective | MDPOObjective, Field(discriminator="name")]


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
    objective: Objective | None = Field(None, description="none: the model itself is scored")
    training: Training = Field(
        default_factory=Training, description="what differs from the study's `training`"
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        default_factory=lambda: [0], min_length=1, description="one training each"
    )

    @model_validator(mode="after")
    def _whole(self) -> "Run":
        if (self.objective is None) != (self.preferences is None):
            raise ValueError("`objective` and `preferences` are given together, or neither is")
        if self.objective is None and len(self.seeds) > 1:
            raise ValueError("without an objective there is nothing to seed; give one seed")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"a seed stands twice in {self.seeds}")
        per_pass = self.training.micro_batch_size * self.training.processes * self.training.nodes
        if self.training.batch_size % per_pass:
            raise ValueError(
                f"training.batch_size {self.training.batch_size} is not a multiple of "
                f"micro_batch_size x processes x nodes = {per_pass}"
            )
        return self

    @property
    def degraded_image(self) -> str | None:
        """How the image is degraded for this run's objective, if it looks at one."""
        objective = self.objective
        if isinstance(objective, MDPOObjective) and (
            objective.conditional or objective.anchor_degraded_image
        ):
            return objective.degraded_image
        return None


class ToyCaptions(Part):
    """Captions of new toy scenes: CHAIR, Cover, hallucination rate, length."""

    source: Literal["toyworld-captions"]
    split: Literal["validation", "test"] = "test"
    items: Count = 300
    max_new_tokens: Count = 80


class ToyYesno(Part):
    """POPE-style questions about new toy scenes: random, popular, adversarial."""

    source: Literal["toyworld-yesno"]
    split: Literal["validation", "test"] = "test"
    items: Count = Field(100, description="questions per setting")
    max_new_tokens: Count = 16


class DatasetPrompts(Part):
    """The prompts of a dataset, answered and shown, without a ground truth."""

    source: Literal["dataset"]
    dataset: Name = Field(description="a name under `datasets`")
    max_new_tokens: Count = 80


class Judge(Part):
    """A judge model behind an OpenAI-compatible endpoint; where it is, the environment says.

    A local server of the same API (vLLM, llama.cpp, Ollama) is a free one: `key_variable: null`.
    """

    model: str = Field(description="the model to ask for; a reply of another one is an error")
    returns: list[str] = Field(
        default_factory=list, description="other names under which it may answer"
    )
    url_variable: str = Field("OPENAI_BASE_URL", description="environment variable of the base URL")
    key_variable: str | None = Field(
        "OPENAI_API_KEY", description="environment variable of the key; null: it needs none"
    )
    concurrency: Count = Field(4, description="calls at the same time")
    retries: int = Field(6, ge=0, description="of a failed call, with back-off")
    timeout: Positive = Field(120.0, description="seconds a call may take")
    input_price: float | None = Field(None, ge=0, description="of a million prompt tokens")
    output_price: float | None = Field(None, ge=0, description="of a million completion tokens")


class PublicBenchmark(Part):
    """A benchmark of the papers: downloaded, or in a folder of one's own."""

    source: Literal["public"]
    benchmark: BenchmarkName
    data: str | None = Field(None, description="folder with its files; default: download them")
    images: str | None = Field(None, description="folder with its images; default: download them")
    items: Count | None = Field(
        None, description="`chair` only: that many COCO val2014 images, drawn with the study's seed"
    )
    prompt: str = Field(
        "{question}", description="what the model is asked, around the benchmark's question"
    )
    similarity: Literal["exact", "embeddings", "spacy"] = Field(
        "exact", description="AMBER only: when a noun counts as another one (above 0.8)"
    )
    judge: Name | None = Field(None, description="a name under `judges`")
    judge_runs: Count = Field(1, description="how often each answer is judged (MM-Vet: 5)")
    max_new_tokens: Count = 512

    @model_validator(mode="after")
    def _whole(self) -> "PublicBenchmark":
        if self.benchmark in JUDGED and not self.judge:
            raise ValueError(
                f"{self.benchmark} is scored by a judge model; give `judge`, a name under `judges`"
            )
        if self.judge and self.benchmark not in (*JUDGED, "object-halbench"):
            raise ValueError(f"{self.benchmark} is scored without a judge; leave `judge` out")
        if (self.items is None) == (self.benchmark == "chair"):
            raise ValueError("`items` is given for `chair` (500 in most papers), and only there")
        if "{question}" not in self.prompt:
            raise ValueError("`prompt` lacks {question}, the place of the benchmark's question")
        return self


class Table(Part):
    """Which metrics the main table and the report show, and against which run."""

    base: Name = Field("base", description="the run that the others are compared with")
    metrics: dict[Name, list[str]] = Field(
        default_factory=dict, description="metrics by benchmark; default: all"
    )


class Report(Part):
    """How the report looks."""

    title: str | None = None
    colours: dict[Name, Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]] = Field(
        default_factory=dict, description="colour of a run, for example {mdpo: '#0072b2'}"
    )
    labels: dict[Name, str] = Field(
        default_factory=dict, description="what a run is called, for example {mdpo: mDPO}"
    )
    gallery: int = Field(36, ge=0, description="items in the gallery")
    failures: int = Field(100, ge=0, description="flawed answers listed for each run and benchmark")


Model = Annotated[ToyModel | AssembledModel | LocalModel, Field(discriminator="source")]
Dataset = Annotated[ToyDataset | LocalDataset, Field(discriminator="source")]
Benchmark = Annotated[
    ToyCaptions | ToyYesno | DatasetPrompts | PublicBenchmark, Field(discriminator="source")
]


class Study(Part):
    """A whole study."""

    name: Name
    seed: int = Field(0, description="of everything but the training runs")
    results: str = Field("results", description="folder of what the study writes")
    models: dict[Name, Model] = Field(min_length=1)
    datasets: dict[Name, Dataset] = Field(default_factory=dict)
    preferences: dict[Name, Preferences] = Field(default_factory=dict)
    training: Training = Field(default_factory=Training, description="default of all runs")
    runs: dict[Name, Run] = Field(min_length=1)
    judges: dict[Name, Judge] = Field(default_factory=dict)
    benchmarks: dict[Name, Benchmark] = Field(default_factory=dict)
    table: Table = Field(default_factory=Table)
    report: Report = Field(default_factory=Report)

    @model_validator(mode="before")
    @classmethod
    def _training_of_runs(cls, data: Any) -> Any:
        """Give every run the study's training settings, under its own."""
        if not isinstance(data, Mapping) or not isinstance(data.get("runs"), Mapping):
            return data
        shared = data.get("training", {})
        runs = {
            name: {**run, "training": {**shared, **run.get("training", {})}}
            if isinstance(run, Mapping)
            and isinstance(shared, Mapping)
            and isinstance(run.get("training", {}), Mapping)
            else run
            for name, run in data["runs"].items()
        }
        return {**data, "runs": runs}

    @model_validator(mode="after")
    def _references(self) -> "Study":
        for where, name, kind, known in self._named():
            if name not in known:
                hint = get_close_matches(name, list(known), 1)
                raise ValueError(
                    f"{where}: there is no {kind} {name!r}; "
                    + (f"did you mean {hint[0]!r}? " if hint else "")
                    + f"defined are: {', '.join(known) or 'none'}"
                )
        for name, run in self.runs.items():
            if run.training.dtype != self.training.dtype:
                raise ValueError(
                    f"runs.{name}.training.dtype: policy and reference must have one precision; "
                    "give `dtype` in the study's `training`"
                )
        return self

    def _named(self) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
        for name, preferences in self.preferences.items():
            yield f"preferences.{name}.dataset", preferences.dataset, "dataset", self.datasets
            if preferences.bdhs:
                where = f"preferences.{name}.bdhs.model"
                yield where, preferences.bdhs.model, "model", self.models
        for name, run in self.runs.items():
            yield f"runs.{name}.model", run.model, "model", self.models
            if run.preferences:
                where = f"runs.{name}.preferences"
                yield where, run.preferences, "preferences entry", self.preferences
        for name, benchmark in self.benchmarks.items():
            if isinstance(benchmark, DatasetPrompts):
                yield f"benchmarks.{name}.dataset", benchmark.dataset, "dataset", self.datasets
            if isinstance(benchmark, PublicBenchmark) and benchmark.judge:
                yield f"benchmarks.{name}.judge", benchmark.judge, "judge", self.judges
        if "base" in self.table.model_fields_set:
            yield "table.base", self.table.base, "run", self.runs
        for name in self.table.metrics:
            yield f"table.metrics.{name}", name, "benchmark", self.benchmarks
        for name in self.report.colours:
            yield f"report.colours.{name}", name, "run", self.runs
        for name in self.report.labels:
            yield f"report.labels.{name}", name, "run", self.runs


def parse(data: Mapping[str, Any], file: str) -> Study:
    """Check a study's content.

    Raises:
        InputError: something is wrong; the message has a line for every mistake with the file,
            the key and what would be valid.
    """
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        lines = [f"{file}: {_explain(detail)}" for detail in error.errors()]
        raise InputError("\n".join(lines)) from None


def load(path: str | Path) -> Study:
    """Read and check the study in a YAML file.

    Raises:
        InputError: the file is missing, is not YAML, or is not a valid study.
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is not YAML: {error}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: a study is a mapping with the keys {', '.join(_keys(Study))}")
    return parse(data, str(path))


def _keys(part: type[BaseModel]) -> list[str]:
    return list(part.model_fields)


def _explain(error: Any) -> str:
    """Return `key: what is wrong; what would be valid`."""
    part, steps = _part_at(error["loc"])
    if steps and steps[-1] == "[key]":
        return f"{'.'.join(steps[:-2])}: {error['input']!r} is no name: {NAME_RULE}"
    key = ".".join(steps) or "study"
    if error["type"] == "extra_forbidden":
        valid = _keys(part) if part else []
        hint = get_close_matches(steps[-1], valid, 1)
        suggestion = f"did you mean {hint[0]!r}? " if hint else ""
        return f"{key}: unknown key; {suggestion}valid here are: {', '.join(valid)}"
    if error["type"] == "value_error":
        message = str(error["ctx"]["error"])
        # The study's own checks name their key themselves.
        return message if key == "study" else f"{key}: {message}"
    if error["type"] == "union_tag_not_found":
        key = f"{key}.{error['ctx']['discriminator'].strip(chr(39))}"
        return f"{key}: is missing; it says which kind this is"
    if error["type"] == "union_tag_invalid":
        context = error["ctx"]
        key = f"{key}.{context['discriminator'].strip(chr(39))}"
        return f"{key}: there is no {context['tag']!r}; valid are: {context['expected_tags']}"
    given = error.get("input")
    shown = "" if error["type"] == "missing" else f" (given: {given!r:.80})"
    return f"{key}: {error['msg']}{shown}"


def _part_at(location: tuple[str | int, ...]) -> tuple[type[BaseModel] | None, list[str]]:
    """Return the part that holds a place, and the place less pydantic's names of union members."""
    part: type[BaseModel] | None = Study
    holder: type[BaseModel] | None = Study
    kinds: list[type[BaseModel]] = []
    steps: list[str] = []
    for step in location:
        tagged = [kind for kind in kinds if _tag(kind) == step]
        if tagged:
            part, kinds = tagged[0], []
            continue
        steps.append(str(step))
        holder = part
        if part is not None and step in part.model_fields:
            kinds = _parts_in(part.model_fields[str(step)].annotation)
            part = kinds[0] if len(kinds) == 1 else None
    return holder, steps


def _tag(part: type[BaseModel]) -> str | None:
    """Return the value that tells a member of a union from the others."""
    for name in ("source", "name"):
        if name in part.model_fields:
            values = getattr(part.model_fields[name].annotation, "__args__", ())
            if values and isinstance(values[0], str):
                return values[0]
    return None


def _parts_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [part for inner in getattr(annotation, "__args__", ()) for part in _parts_in(inner)]
