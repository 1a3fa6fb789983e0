"""The plan of a study in words, before anything runs."""

from collections.abc import Iterator, Mapping

from mmpref.study import costs
from mmpref.study.models import HubModel
from mmpref.study.study import Study

UNKNOWN = "unknown"


def plan(study: Study, jobs: Mapping[str, int]) -> str:
    """Return what a study will take; `jobs` are Snakemake's, by rule."""
    sections = {
        "Jobs": _jobs(jobs),
        "Models": _models(study),
        "GPU hours": _hours(study),
        "Peak memory of a GPU, without activations": _memory(study),
        "Disk": _disk(study),
        "Judge": _judge(study),
    }
    parts = [f"{title}\n" + "\n".join(f"  {line}" for line in of) for title, of in sections.items()]
    return "\n\n".join([*parts, "From (config/rates.yaml)\n" + "\n".join(_sources())])


def _jobs(jobs: Mapping[str, int]) -> Iterator[str]:
    for rule, number in jobs.items():
        yield f"{rule}: {number}"
    yield f"in all: {sum(jobs.values())}"


def _models(study: Study) -> Iterator[str]:
    for name, model in study.models.items():
        parameters = costs.parameters_of(model)
        size = UNKNOWN if parameters is None else f"{parameters / 1e9:.2f} billion"
        line = f"{name}: {size} parameters"
        if model.source not in ("hub", "local"):
            line = f"{name}: made here"
        if isinstance(model, HubModel):
            bytes_ = None if parameters is None else 2 * parameters
            line += f"; download {_size(bytes_)} (16 bits a parameter)"
        yield line


def _hours(study: Study) -> Iterator[str]:
    known, unknown = 0.0, False
    for name, run in study.runs.items():
        if run.objective is None or run.preferences is None:
            continue
        model = study.models[run.model]
        pairs = costs.pairs_of(study, run.preferences)
        hours = costs.training_hours(run, model, pairs)
        if hours is None:
            unknown = True
            by_thousand = costs.training_hours(run, model, 1000)
            why = f"{by_thousand:.2f} for 1,000 pairs" if by_thousand else "no rate is known"
            yield f"train {name}, {_counted(len(run.seeds), 'seed')}: {UNKNOWN}; {why}"
            continue
        known += hours * len(run.seeds)
        reference = costs.reference_hours(run, model, pairs)
        yield (
            f"train {name}, {_counted(len(run.seeds), 'seed')}: {hours * len(run.seeds):.1f}; "
            f"its reference: {reference:.1f}"
        )
    yield f"training in all: {'more than ' if unknown else ''}{known:.1f}"
    yield f"sampling and answers: {UNKNOWN}, no rate is documented"


def _memory(study: Study) -> Iterator[str]:
    for name, run in study.runs.items():
        if run.objective is None:
            continue
        model, training = study.models[run.model], run.training
        found = [_size(costs.gpu_bytes(run, model, stage)) for stage in (0, 1, 2, 3)]
        stages = ", ".join(f"stage {stage} {size}" for stage, size in enumerate(found))
        gpus = _counted(training.processes * training.nodes, "GPU")
        yield f"{name}, {gpus}: {stages}; the study has stage {training.zero_stage}"


def _disk(study: Study) -> Iterator[str]:
    sizes = [
        costs.parameters_of(model) for model in study.models.values() if isinstance(model, HubModel)
    ]
    known = sum(2 * size for size in sizes if size)
    missing = f", and {sizes.count(None)} of unknown size" if None in sizes else ""
    yield f"models of the hub: {_size(known)}{missing}"
    adapters = [
        (costs.adapter_parameters(study.models[run.model], run.training.lora_rank), len(run.seeds))
        for run in study.runs.values()
        if run.objective
    ]
    states = costs.MASTER_AND_MOMENTS + 2 * costs.BYTES["float32"]
    found = sum(states * size * seeds for size, seeds in adapters if size)
    missing = ", and those of models of unknown size" if any(not one for one, _ in adapters) else ""
    yield f"adapters and a checkpoint of each: {_size(found)}{missing}"
    yield f"preference data, benchmarks and their images: {UNKNOWN}"


def _judge(study: Study) -> Iterator[str]:
    scored = sum(len(run.seeds) for run in study.runs.values())
    for name, part in study.benchmarks.items():
        judges = [named for table, named in part.references.values() if table == "judges"]
        for judge in judges:
            rate = costs.rates().judges.benchmarks.get(part.measures)
            if rate is None:
                yield f"{name}: calls {UNKNOWN}"
                continue
            calls = rate.calls * scored * getattr(part, "judge_runs", 1)
            price = study.judges[judge].input_price
            if price is None:
                cost = f"price {UNKNOWN}: `judges.{judge}` has no `input_price`"
            elif rate.tokens is None:
                cost = f"price {UNKNOWN}: nobody has counted the tokens of a call"
            else:
                cost = f"prompts for about {calls * rate.tokens * price / 1e6:.2f}"
            yield f"{name}: at most {calls:,} calls to {study.judges[judge].model}; {cost}"
    if not any(
        table == "judges"
        for one in study.benchmarks.values()
        for table, _ in one.references.values()
    ):
        yield "none"


def _sources() -> Iterator[str]:
    rates = costs.rates()
    yield f"  training: {rates.training.source}; {rates.training.scaling}"
    for name in ("reference", "adapter", "memory", "time", "judges"):
        yield f"  {name}: {getattr(rates, name).source}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"


def _size(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number / 1e9:.1f} GB"
