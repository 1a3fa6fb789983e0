"""The plan of a study in words, before anything runs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mmpref.study import costs
from mmpref.study.explanation import read_yaml
from mmpref.study.models import BunnyModel, HubModel
from mmpref.study.preferences import MPNET
from mmpref.study.reference import images_of
from mmpref.study.study import Study

UNKNOWN = "unknown"
DOWNLOADS = "resources/benchmarks"
ENTRIES = Path(__file__).parents[1] / "downloads.yaml"
ENCODER_BYTES = 438_000_000
"""Of all-mpnet-base-v2: 109 million parameters of 32 bits."""


def plan(study: Study, jobs: Mapping[str, int]) -> str:
    """Return what a study will take; `jobs` are Snakemake's, by rule."""
    sections = {
        "Jobs": _jobs(jobs),
        "Models": _models(study),
        "GPU hours": _hours(study),
        "Peak memory of a GPU, without activations": _memory(study),
        "Downloads": _downloads(study),
        "Disk, beside the downloads": _disk(study),
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
        if model.source in ("hub", "local", "bunny"):
            yield f"{name}: {size} parameters"
        else:
            yield f"{name}: made here"


def _hours(study: Study) -> Iterator[str]:
    """Yield a table with a row for each run, then what runs share, and the sum."""
    rows = [("run", "seeds", "training", "answers, at most")]
    spent = list[float | None]()
    for name, run in study.runs.items():
        seeds = len(run.seeds)
        shown = "-"
        if run.preferences:
            pairs = costs.pairs_of(study, run.preferences)
            hours = costs.training_hours(run, study.models[run.model], pairs)
            training = None if hours is None else seeds * hours
            spent.append(training)
            shown = _number(training)
        answers = [costs.answer_hours(study, run, part) for part in study.benchmarks.values()]
        of_answers = None if None in answers else seeds * sum(filter(None, answers))
        spent.append(of_answers)
        rows.append((name, str(seeds), shown, _number(of_answers)))
    yield from _aligned(rows)
    references = {
        (run.model, run.preferences, image)
        for run in study.runs.values()
        if run.preferences
        for image in images_of(run)
    }
    shared = {
        "reference log-probabilities": [
            costs.stored_hours(study, *one) for one in sorted(references)
        ],
        "sampling of rejected answers, at most": [
            costs.sampling_hours(study, name)
            for name, part in study.preferences.items()
            if part.sampler
        ],
    }
    for what, parts in shared.items():
        if parts:
            spent += parts
            yield f"{what}: {_sum(parts)}"
    yield f"in all: {_sum(spent)}"
    for name, run in study.runs.items():
        if run.preferences and costs.pairs_of(study, run.preferences) is None:
            by_thousand = costs.training_hours(run, study.models[run.model], 1000)
            if by_thousand:
                yield f"{name}: {by_thousand:.2f} for 1,000 pairs; how many there are is {UNKNOWN}"


def _memory(study: Study) -> Iterator[str]:
    """Yield a line for all runs of which the same holds."""
    found: dict[str, list[str]] = {}
    for name, run in study.runs.items():
        if run.objective is None:
            continue
        model, training = study.models[run.model], run.training
        sizes = [_size(costs.gpu_bytes(run, model, stage)) for stage in (0, 1, 2, 3)]
        stages = ", ".join(f"stage {stage} {size}" for stage, size in enumerate(sizes))
        gpus = _counted(training.processes * training.nodes, "GPU")
        line = f"{gpus}: {stages}; the study has stage {training.zero_stage}"
        found.setdefault(f"{run.model}, {line}", []).append(name)
    for line, names in found.items():
        yield line
        yield f"  {', '.join(names)}"


def _downloads(study: Study) -> Iterator[str]:
    """Yield the size of each download, whether it is there already, and what people must get."""
    sizes, entries = costs.rates().downloads.bytes, read_yaml(ENTRIES)
    missing = list[int | None]()

    def line(what: str, place: str, size: int | None) -> str:
        there = Path(place).exists()
        if not there:
            missing.append(size)
        return f"{what}: {_size(size)}{', is there' if there else ''}"

    for name, model in study.models.items():
        parameters = costs.parameters_of(model)
        if isinstance(model, HubModel | BunnyModel):
            place = model.folder if isinstance(model, HubModel) else model.checkpoint
            yield line(f"model {name}", str(place), None if parameters is None else 2 * parameters)
    if any(part.encoder_folder == MPNET for part in study.preferences.values()):
        yield line("encoder mpnet", MPNET, ENCODER_BYTES)
    by_hand = list[str]()
    for place in _places(study):
        name = Path(place).name
        if Path(place).parent != Path(DOWNLOADS) or name not in entries:
            yield line(place, place, None)
            continue
        yield line(name, place, sizes.get(name))
        files = [file for file in entries[name]["files"] if "by_hand" in file]
        if not Path(place).exists():
            by_hand += [f"{DOWNLOADS}/by-hand/{name}/{file['path']}" for file in files]
    yield f"in all, without what is there: {_bytes(missing)}"
    if by_hand:
        yield f"must be downloaded manually: {', '.join(by_hand)}"


def _places(study: Study) -> list[str]:
    """Return the folders that datasets and benchmarks are read from, each once."""
    places = [place for part in study.datasets.values() for place in getattr(part, "inputs", ())]
    for benchmark in study.benchmarks.values():
        places += [f"{DOWNLOADS}/{name}" for name in benchmark.downloads]
    return list(dict.fromkeys(places))


def _disk(study: Study) -> Iterator[str]:
    trained = [run for run in study.runs.values() if run.objective]
    adapters = [
        (costs.adapter_parameters(study.models[run.model], run.training.lora_rank), len(run.seeds))
        for run in trained
    ]
    for what, size in (
        ("adapters", costs.BYTES["float32"]),
        (
            "a checkpoint of each, until it is trained",
            costs.MASTER_AND_MOMENTS + costs.BYTES["float32"],
        ),
    ):
        found = [None if count is None else size * count * seeds for count, seeds in adapters]
        yield f"{what}: {_bytes(found)}"
    converted = [
        2 * (costs.parameters_of(model) or 0)
        for model in study.models.values()
        if isinstance(model, BunnyModel)
    ]
    if converted:
        yield f"converted models: {_bytes(converted)}"
    # Of a sampled one the shards too.
    copies = [costs.pairs_in(part) for part in study.datasets.values()]
    for name, part in study.preferences.items():
        copies += [costs.pairs_of(study, name)] * (2 if part.sampler else 1)
    pair = costs.rates().downloads.pair
    pairs = [None if count is None else count * pair for count in copies]
    if pairs:
        yield f"pairs with their images: at most {_bytes(pairs)}"


def _judge(study: Study) -> Iterator[str]:
    scored = sum(len(run.seeds) for run in study.runs.values())
    prices, judged = list[float | None](), False
    for name, part in study.benchmarks.items():
        for judge in (named for table, named in part.references.values() if table == "judges"):
            judged, items = True, costs.items_of(part)
            if items is None:
                prices.append(None)
                yield f"{name}: calls {UNKNOWN}"
                continue
            calls = items * scored * getattr(part, "judge_runs", 1)
            tokens = costs.rates().judges.tokens.get(part.measures)
            price = study.judges[judge].input_price
            if price is None:
                cost = f"price {UNKNOWN}: `judges.{judge}` has no `input_price`"
            elif tokens is None:
                cost = f"price {UNKNOWN}: nobody has counted the tokens of a call"
            else:
                cost = f"prompts for about {calls * tokens * price / 1e6:.2f}"
            prices.append(calls * tokens * price / 1e6 if price is not None and tokens else None)
            yield f"{name}: at most {calls:,} calls to {study.judges[judge].model}; {cost}"
    if not judged:
        yield "none"
    elif len(prices) > 1:
        yield f"prompts in all: {_sum(prices, '.2f')}"


def _sources() -> Iterator[str]:
    rates = costs.rates()
    yield f"  training: {rates.training.source}; {rates.training.scaling}"
    names = ("answers", "reference", "adapter", "memory", "time", "items", "pairs", "downloads")
    for name in (*names, "judges"):
        yield f"  {name}: {getattr(rates, name).source}"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows as lines, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join([first.ljust(widths[0]), *cells])


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"


def _number(hours: float | None) -> str:
    return UNKNOWN if hours is None else f"{hours:.1f}"


def _sum(values: Iterable[float | None], style: str = ".1f") -> str:
    found = list(values)
    known = [value for value in found if value is not None]
    if not known and found:
        return UNKNOWN
    return f"{'more than ' if len(known) < len(found) else ''}{sum(known):{style}}"


def _size(number: float | None) -> str:
    if number is None:
        return UNKNOWN
    return f"{number / 1e9:.1f} GB" if number >= 1e8 or not number else f"{number / 1e6:.0f} MB"


def _bytes(sizes: Iterable[int | None]) -> str:
    """Return a sum of sizes; those that are not known are named."""
    found = list(sizes)
    missing = found.count(None)
    known = _size(sum(filter(None, found)))
    return f"{known}, and {missing} of {UNKNOWN} size" if missing else known
