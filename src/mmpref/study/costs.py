"""What a study will take: memory, GPUs and time, for its plan and for the rules alike.

All of it is arithmetic on `config/rates.yaml`, which says where each figure comes from. What
cannot be known before anything runs is None.
"""

import json
import struct
from functools import cache
from math import ceil, prod
from pathlib import Path
from typing import Literal

from mmpref.errors import InputError
from mmpref.study.benchmarks import BenchmarkSource
from mmpref.study.explanation import read_yaml
from mmpref.study.models import AssembledModel, BunnyModel, HubModel, LocalModel, Model, ToyModel
from mmpref.study.parts import Part
from mmpref.study.reference import stored_for
from mmpref.study.runs import ORIGINAL, Run
from mmpref.study.study import Study

RATES = Path(__file__).parents[3] / "config" / "rates.yaml"
BYTES = {"float32": 4, "bfloat16": 2}
BUNNY_PARAMETERS = 3_182_254_624
"""Of Bunny-v1.0-3B with its vision tower, counted from the sizes of its files."""
MASTER_AND_MOMENTS = 12
"""Bytes of the optimiser for each trained parameter: a float32 copy and Adam's two moments."""


class FamilyRate(Part):
    """Pairs per second and GPU of a model with so many parameters."""

    parameters: int
    dpo: float
    mdpo: float


class TrainingRates(Part):
    """Rates of training by family."""

    source: str
    families: dict[str, FamilyRate]
    checkpointing: float
    scaling: str


class ReferenceRates(Part):
    """What a forward pass takes, as part of a training step."""

    forward_and_backward: float
    source: str


class AdapterRates(Part):
    """Parameters of an adapter for each unit of its rank, of a model with `parameters`."""

    per_rank: int
    parameters: int
    source: str


class MemoryRates(Part):
    """Assumptions about memory."""

    process_mb: int
    weights_factor: float
    gpu_gb: int
    gpu_share: float
    unknown_parameters: int
    live_parameters: int
    source: str


class Limits(Part):
    """Minutes that a job may take where nothing is known of it."""

    sampling: int
    reference: int
    training: int
    merging: int
    answers: int


class TimeRates(Part):
    """From an estimate to the limit of a job; `limits` are those of a model with `parameters`."""

    safety: float
    start_minutes: int
    limits: Limits
    parameters: int
    source: str


class AnswerRates(Part):
    """Prompt tokens per second, and seconds of a step, of a model with `parameters`."""

    parameters: int
    prompt_tokens: int
    step_seconds: float
    text_tokens: int
    image_tokens: dict[str, int]
    source: str


class ItemRates(Part):
    """How many questions a benchmark has."""

    source: str
    benchmarks: dict[str, int]


class JudgeRates(Part):
    """Prompt tokens of a judge's call, by benchmark."""

    source: str
    tokens: dict[str, int]


class PairRates(Part):
    """How many pairs a whole dataset has."""

    source: str
    datasets: dict[str, int]


class DownloadRates(Part):
    """Bytes of downloads, and of a pair with its image."""

    source: str
    pair: int
    bytes: dict[str, int]


class Rates(Part):
    """`config/rates.yaml`."""

    training: TrainingRates
    answers: AnswerRates
    reference: ReferenceRates
    adapter: AdapterRates
    memory: MemoryRates
    time: TimeRates
    items: ItemRates
    judges: JudgeRates
    pairs: PairRates
    downloads: DownloadRates


@cache
def rates() -> Rates:
    """Return the rates. Raises InputError when the file cannot be read."""
    return Rates.model_validate(read_yaml(RATES))


@cache
def parameters_of(model: Model) -> int | None:
    """Return how many parameters a model has; None where that is not known yet.

    What lies on disk is counted from the headers of its weights, else estimated from its
    config.json; else it is what the study says. Raises InputError when the weights cannot be read.
    """
    if isinstance(model, BunnyModel):
        return BUNNY_PARAMETERS
    if not isinstance(model, LocalModel | HubModel):
        return None
    files = sorted(Path(model.folder).glob("*.safetensors"))
    if files:
        return sum(map(_stored, files))
    if isinstance(model, HubModel) and model.parameters:
        return model.parameters
    return _by_shape(Path(model.folder) / "config.json")


def _stored(file: Path) -> int:
    """Return the number of parameters in a file of safetensors, which begins with their shapes."""
    try:
        with file.open("rb") as content:
            (length,) = struct.unpack("<Q", content.read(8))
            header = json.loads(content.read(length))
        tensors = [one for name, one in header.items() if name != "__metadata__"]
        return sum(prod(one["shape"]) for one in tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise InputError(
            f"{file}: its header cannot be read as safetensors ({error}); get the file again"
        ) from None


def _by_shape(config: Path) -> int | None:
    """Return about how many parameters the language model of a config.json has, None without one.

    Embeddings and head, and per layer the attention and three projections of a gated MLP.
    """
    if not config.is_file():
        return None
    whole = read_yaml(config)
    found = whole.get("text_config", whole) if isinstance(whole, dict) else {}
    names = ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size")
    if not all(isinstance(found.get(name), int) for name in names):
        return None
    width, layers, inner, words = (int(found[name]) for name in names)
    heads = found.get("num_attention_heads") or 1
    shared = (found.get("num_key_value_heads") or heads) / heads
    return round(2 * words * width + layers * ((2 + 2 * shared) * width**2 + 3 * width * inner))


def family_of(model: Model) -> str | None:
    """Return the family of a model, None where nothing says it."""
    if isinstance(model, HubModel) and model.family:
        return model.family
    if isinstance(model, BunnyModel):
        return "llava"
    if not isinstance(model, LocalModel | HubModel):
        return None
    config = Path(model.folder) / "config.json"
    found = read_yaml(config) if config.is_file() else None
    return found.get("model_type") if isinstance(found, dict) else None


def memory_mb(model: Model, dtype: str, processes: int = 1, split: int = 1) -> int:
    """Return the host memory of a job, in MB, whose processes each load a part of the model.

    It is split into so many parts; without, each process loads the whole.
    """
    memory = rates().memory
    weights = memory.weights_factor * _assumed_parameters(model) * BYTES[dtype] / 1e6
    return processes * (memory.process_mb + ceil(weights / split))


def training_memory_mb(run: Run, model: Model) -> int:
    """Return the host memory of a training on each of its machines, in MB.

    Under ZeRO-3 a process loads its part only.
    """
    training = run.training
    split = training.processes * training.nodes if training.zero_stage == 3 else 1
    return memory_mb(model, training.dtype, training.processes, split)


def gpus(model: Model, dtype: str) -> int:
    """Return how many GPUs the weights of a model need, at least one."""
    memory = rates().memory
    weights = _assumed_parameters(model) * BYTES[dtype]
    return max(1, ceil(weights / (memory.gpu_share * memory.gpu_gb * 1e9)))


def _assumed_parameters(model: Model) -> int:
    """Return how many parameters a model has; of an unknown one, what is assumed."""
    found = parameters_of(model)
    if found is not None:
        return found
    return 0 if isinstance(model, ToyModel | AssembledModel) else rates().memory.unknown_parameters


def adapter_parameters(model: Model, rank: int) -> int | None:
    """Return about how many parameters an adapter has; None for a model of unknown size."""
    adapter, parameters = rates().adapter, parameters_of(model)
    if parameters is None:
        return None
    return round(rank * adapter.per_rank * parameters / adapter.parameters)


def gpu_bytes(run: Run, model: Model, stage: Literal[0, 1, 2, 3]) -> int | None:
    """Return the peak memory of a GPU in a training, without activations, in bytes.

    Weights, gradients and the optimiser's state of the adapter as ZeRO splits them: the optimiser
    from stage 1, gradients from 2, weights from 3. None for a model of unknown size.
    """
    training = run.training
    parameters, adapter = parameters_of(model), adapter_parameters(model, training.lora_rank)
    if parameters is None or adapter is None:
        return None
    size, split = BYTES[training.dtype], training.processes * training.nodes
    weights, gradients = (parameters + adapter) * size, adapter * size
    optimiser = adapter * MASTER_AND_MOMENTS
    if stage == 3:
        live = min(parameters, rates().memory.live_parameters) * size
        weights = min(weights, weights // split + live)
    return (
        weights
        + (gradients // split if stage >= 2 else gradients)
        + (optimiser // split if stage >= 1 else optimiser)
    )


def pairs_of(study: Study, preferences: str) -> int | None:
    """Return at most how many pairs a preference entry has, None where only the data say it."""
    return pairs_in(study.datasets[study.preferences[preferences].dataset])


def pairs_in(dataset: Part) -> int | None:
    """Return at most how many pairs a dataset has, None where only the data say it."""
    kind = "-".join(
        getattr(dataset, name) for name in ("source", "pairing") if hasattr(dataset, name)
    )
    whole = getattr(dataset, "pairs", None) or rates().pairs.datasets.get(kind)
    sizes = [size for size in (whole, getattr(dataset, "subset", None)) if isinstance(size, int)]
    return min(sizes, default=None)


def pairs_per_second(run: Run, model: Model) -> float | None:
    """Return the rate of a training on one GPU; None where no rate of its family is known."""
    found = _rates_of(model, run.training.dtype)
    if found is None or run.objective is None:
        return None
    one_image, two_images = found
    rate = one_image if len({view.image for view in run.views}) == 1 else two_images
    return rate / (rates().training.checkpointing if run.training.gradient_checkpointing else 1)


def _rates_of(model: Model, dtype: str) -> tuple[float, float] | None:
    """Return the pairs per second of DPO and of mDPO, which looks at two images; None: unknown."""
    rate = rates().training.families.get(family_of(model) or "")
    parameters = parameters_of(model)
    if rate is None or not parameters or dtype != "bfloat16":
        return None
    size = parameters / rate.parameters
    return rate.dpo / size, rate.mdpo / size


def training_hours(run: Run, model: Model, pairs: int | None) -> float | None:
    """Return the GPU hours of a training with one seed; None where something is not known."""
    rate = pairs_per_second(run, model)
    return None if rate is None or pairs is None else pairs * run.training.epochs / rate / 3600


def reference_hours(run: Run, model: Model, pairs: int | None) -> float | None:
    """Return the GPU hours of the reference of a run, one pass over the pairs."""
    training = run.training.model_copy(update={"gradient_checkpointing": False})
    rate = pairs_per_second(run.model_copy(update={"training": training}), model)
    if rate is None or pairs is None:
        return None
    return pairs / rate / 3600 / rates().reference.forward_and_backward


def stored_hours(study: Study, model: str, preferences: str, image: str) -> float | None:
    """Return the GPU hours of the reference under an image, which runs share.

    Of a degraded image there is one for each epoch. None where something is not known.
    """
    stored = stored_for(study.runs.values(), model, preferences, image, study.seed)
    pairs = pairs_of(study, preferences)
    found = _rates_of(study.models[model], study.training.dtype)
    if stored is None or pairs is None or found is None:
        return None
    one_image, two_images = found
    seconds = 1 / one_image if image == ORIGINAL else 1 / two_images - 1 / one_image
    return pairs * stored.epochs * seconds / rates().reference.forward_and_backward / 3600


def items_of(part: BenchmarkSource) -> int | None:
    """Return how many questions a benchmark has, None where that is not known."""
    asked = getattr(part, "items", None)
    return asked if isinstance(asked, int) else rates().items.benchmarks.get(part.measures)


def answer_hours(study: Study, run: Run, part: BenchmarkSource) -> float | None:
    """Return at most how many GPU hours a run's answers to a benchmark take, for one seed.

    None where something is not known.
    """
    items, found = items_of(part), _answering(study, run.model)
    if items is None or found is None:
        return None
    prompt_seconds, step_seconds = found
    steps = ceil(items / study.responses.batch_size) * part.max_new_tokens
    return (items * prompt_seconds + steps * step_seconds) / 3600


def sampling_hours(study: Study, preferences: str) -> float | None:
    """Return at most how many GPU hours the rejected answers of a preference entry take.

    None where something is not known.
    """
    part = study.preferences[preferences]
    pairs, sampler = pairs_of(study, preferences), part.sampler
    found = sampler and _answering(study, sampler.model)
    if pairs is None or not sampler or not found:
        return None
    prompt_seconds, step_seconds = found
    if part.bdhs is None:
        return pairs * prompt_seconds / 3600
    steps = ceil(pairs / part.bdhs.batch_size) * part.bdhs.max_new_tokens
    read = pairs * prompt_seconds * (1 - part.bdhs.mask_ratio)
    return part.bdhs.iterations * (read + steps * step_seconds) / 3600


def _answering(study: Study, name: str) -> tuple[float, float] | None:
    """Return the seconds of a prompt with its image, and of a step; None for an unknown model."""
    model, answers = study.models[name], rates().answers
    parameters, image = parameters_of(model), answers.image_tokens.get(family_of(model) or "")
    if parameters is None or image is None or study.training.dtype != "bfloat16":
        return None
    size = parameters / answers.parameters
    return size * (image + answers.text_tokens) / answers.prompt_tokens, answers.step_seconds


def minutes(hours: float, split: int = 1) -> int:
    """Return the time limit of a job with so many GPU hours over `split` GPUs, in minutes."""
    return ceil(rates().time.safety * hours * 60 / split) + rates().time.start_minutes


def limit(kind: str, model: Model) -> int:
    """Return the time limit of a job whose hours nobody knows, in minutes.

    `kind` is a field of `Limits`.
    """
    time = rates().time
    size = (parameters_of(model) or 0) / time.parameters
    return ceil(getattr(time.limits, kind) * max(1.0, size))
