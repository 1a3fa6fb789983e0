"""Cards for what a study makes: what went in, how it was made, how well it does.

A card holds settings and names: no keys, no judges' addresses, no places on this machine.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mmpref.errors import InputError
from mmpref.files import replacing
from mmpref.records.pairs import Pairs
from mmpref.reporting.sources import UNKNOWN, Source, file_source, public
from mmpref.reporting.tables import markdown_table, with_interval

OTHER_LICENCE: dict[str, Any] = {
    "license": "other",
    "license_name": "licences-of-the-sources",
    "license_link": "README.md",
}
"""What was made of several things is under no single licence that a program could name."""

SAMPLED = {
    "bdhs": "The rejected answers were sampled by BDHS (bias-driven hallucination sampling).",
    "distortion": "The rejected answers are what a model reads in the chosen ones under a noisy "
    "image, as POVID's are.",
}
"""Where rejected answers come from, by the setting that makes them."""


@dataclass(frozen=True)
class Recipe:
    """The name of some preferences, and the settings that their pairs were made with."""

    preferences: str
    settings: Mapping[str, Any]


def write_adapter(
    output: Path,
    adapter: str | Path,
    run: Mapping[str, Any],
    sources: Sequence[Source],
    recipe: Recipe,
    version: str,
    table: pd.DataFrame | None = None,
    base_run: str | None = None,
) -> None:
    """Write a folder to publish: an adapter and its card. `run` is what run.json holds.

    The first of `sources` is the model. `table` is the main table of the study, if it has one, and
    `base_run` the run that this one is compared with.

    Raises:
        InputError: the adapter is missing.
    """
    config_file = Path(adapter) / "adapter_config.json"
    if not config_file.is_file():
        raise InputError(f"{adapter}: no adapter here (adapter_config.json is missing)")
    model = sources[0]
    config = json.loads(config_file.read_text(encoding="utf-8"))
    # Where the model lay on this machine is of no use elsewhere.
    loadable = model.repository and not model.converted
    config["base_model_name_or_path"] = model.name
    config["revision"] = model.revision if loadable else None
    with replacing(output) as temporary:
        temporary.mkdir()
        for file in sorted(Path(adapter).glob("*.safetensors")):
            shutil.copyfile(file, temporary / file.name)
        text = json.dumps(config, indent=2, sort_keys=True)
        (temporary / config_file.name).write_text(text + "\n", encoding="utf-8")
        weights = file_source("this adapter", temporary / "adapter_model.safetensors")
        card = adapter_card(run, [*sources, weights], recipe, version, table, base_run)
        (temporary / "README.md").write_text(card, encoding="utf-8")


def adapter_card(
    run: Mapping[str, Any],
    sources: Sequence[Source],
    recipe: Recipe,
    version: str,
    table: pd.DataFrame | None = None,
    base_run: str | None = None,
) -> str:
    """Return the model card of an adapter; the arguments are those of `write_adapter`."""
    from huggingface_hub import EvalResult, ModelCardData

    name, seed = run["name"], run["seed"]
    objective = run["run"]["objective"]["name"]
    model = sources[0]
    rows = _rows_of(table, name)
    results = [
        EvalResult(
            task_type="image-text-to-text",
            dataset_type=row["benchmark"],
            dataset_name=row["benchmark"],
            metric_type=row["metric"],
            metric_value=row["mean"],
        )
        for row in rows
        if not pd.isna(row["mean"])
    ]
    data = ModelCardData(
        library_name="peft",
        pipeline_tag="image-text-to-text",
        base_model=model.repository,
        base_model_relation="adapter" if model.repository else None,
        datasets=_repositories(source for source in sources if source.part == "data"),
        tags=["mmpref", "lora", "preference-optimization", objective],
        model_name=f"{name}-seed{seed}" if results else None,
        eval_results=results or None,
        **OTHER_LICENCE,
    )
    settings = {key: value for key, value in run["run"].items() if key != "seeds"}
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {name}, seed {seed}",
        f"A LoRA adapter for `{model.name}`, trained by mmpref {version} with the objective "
        f"`{objective}` on preference pairs about images.",
        "## Use\n\n" + _use(model),
        *_scores(rows, _rows_of(table, base_run), name, base_run),
        "## What went in\n\n" + _sources(sources),
        "## Recipe\n\n"
        + _yaml({"run": name, "seed": seed, **settings})
        + f"\n\nThe pairs `{recipe.preferences}` were made with:\n\n"
        + _yaml(recipe.settings),
    ]
    return "\n\n".join(parts) + "\n"


def pairs_card(pairs: str | Path, sources: Sequence[Source], recipe: Recipe, version: str) -> str:
    """Return the dataset card of a file of pairs.

    Raises:
        InputError: the file cannot be read.
    """
    from huggingface_hub import DatasetCardData

    origins = Counter(pair.source for pair in Pairs(pairs).without_images())
    name, file = recipe.preferences, Path(pairs).name
    total = origins.total()
    data = DatasetCardData(
        pretty_name=name,
        task_categories=["image-text-to-text"],
        size_categories=[_size(total)],
        source_datasets=_repositories(source for source in sources if source.part == "data"),
        tags=["mmpref", "dpo", "preference"],
        configs=[{"config_name": "default", "data_files": file}],
        **OTHER_LICENCE,
    )
    sampled = next(
        (text for sampler, text in SAMPLED.items() if recipe.settings.get(sampler)),
        "The answers are those of the sources.",
    )
    counted = "\n".join(f"- {source}: {count:,}" for source, count in sorted(origins.items()))
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {name}",
        f"{total:,} preference pairs about images: `images`, `prompt`, `chosen`, `rejected`, "
        "`source`, `meta`, in the format that TRL trains on. "
        f"{sampled} Made by mmpref {version}.",
        "Pairs by `source`:\n\n" + counted,
        "## Use\n\n```python\nimport datasets\n\n"
        f'pairs = datasets.load_dataset("parquet", data_files="{file}", split="train")\n```',
        "## What went in\n\n" + _sources(sources),
        "## Recipe\n\n" + _yaml(recipe.settings),
    ]
    return "\n\n".join(parts) + "\n"


def _rows_of(table: pd.DataFrame | None, run: str | None) -> list[dict[str, Any]]:
    if table is None or run is None:
        return []
    return [
        {str(key): value for key, value in row.items()}
        for row in table[table["run"] == run].to_dict("records")
    ]


def _scores(
    rows: Sequence[Mapping[str, Any]],
    base_rows: Sequence[Mapping[str, Any]],
    name: str,
    base_run: str | None,
) -> list[str]:
    """Return the section of the scores; nothing where nothing was scored."""
    if not rows:
        return []
    base = {(row["benchmark"], row["metric"]): with_interval(row) for row in base_rows}
    both = bool(base) and base_run != name
    header = ["benchmark", "metric", name, *([str(base_run)] if both else []), "items"]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        before = [base.get((row["benchmark"], row["metric"]), "")] if both else []
        lines.append(
            [row["benchmark"], row["metric"], with_interval(row), *before, f"{row['items']:.0f}"]
        )
    seeds = f"{rows[0]['seeds']:.0f}"
    return [
        "## Scores\n\n"
        f"Mean over {seeds} training seed{'' if seeds == '1' else 's'} of this run [95 % bootstrap "
        "interval over items and seeds].\n\n" + markdown_table(lines)
    ]


def _use(model: Source) -> str:
    loadable = model.repository and not model.converted
    where = model.name if loadable else f"folder/of/{Path(model.name).name}"
    revision = f', revision="{model.revision}"' if loadable else ""
    note = "The model is first converted by mmpref: `source: bunny`.\n\n" if model.converted else ""
    return (
        f"{note}```python\nimport peft\nimport transformers\n\n"
        f'name = "{where}"\n'
        f"model = transformers.AutoModelForImageTextToText.from_pretrained(name{revision})\n"
        'model = peft.PeftModel.from_pretrained(model, "folder/of/this/adapter")\n```'
    )


def _sources(sources: Iterable[Source]) -> str:
    lines = [["part", "name", "revision", "licence", "digest"], ["---"] * 5]
    for source in sources:
        ours = (source.digest or "").startswith("sha256:")
        licence = source.licence or ("" if ours else UNKNOWN)
        if source.non_commercial:
            licence += " (**non-commercial**)"
        lines.append(
            [source.part, source.name, source.revision or "", licence, source.digest or ""]
        )
    return markdown_table(lines)


def _yaml(settings: Mapping[str, Any]) -> str:
    return f"```yaml\n{yaml.safe_dump(public(settings), sort_keys=False).rstrip()}\n```"


def _repositories(sources: Iterable[Source]) -> list[str] | None:
    return sorted({source.repository for source in sources if source.repository}) or None


def _size(count: int) -> str:
    """Return the hub's name for a number of rows."""
    limits = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
    return next((name for limit, name in limits.items() if count < limit), "1M<n<10M")
