"""What the rules share: the study, names in paths, input functions."""

import json
import os
import shlex
import sys
import tomllib
from functools import cache
from pathlib import Path

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "src"))

import yaml
from snakemake.logging import logger

from mmpref.digest import digest
from mmpref.errors import InputError
from mmpref.files import sha256
from mmpref.study import costs, origins
from mmpref.study.models import families
from mmpref.study.parts import Part
from mmpref.study.reference import images_of, stored_for
from mmpref.study.runs import IMAGES
from mmpref.study.site import load as load_site
from mmpref.study import study as studies

STUDY_FILE = ", ".join(map(str, workflow.configfiles)) or "command line"
try:
    study = studies.parse(config, STUDY_FILE)
except InputError as error:
    raise WorkflowError(str(error)) from None

# Rules find the library and the scripts here, also from another working directory.
shell.prefix(
    f"set -euo pipefail; export MMPREF={shlex.quote(str(ROOT))}"
    f" PYTHONPATH={shlex.quote(str(ROOT / 'src'))}; "
)


def code(script, *more, model=None):
    """Return the digest of a script, of the library it uses, and of `more`.

    What has a file of its own (an objective, a dataset, a benchmark, the family of a `model`) is
    found by its name, so no import leads there: `more` are such files, or parts of the study that
    stand for theirs.
    """
    files = [
        one if isinstance(one, Path) else sys.modules[type(one).__module__].__file__
        for one in more
    ]
    files += family_of(model) if model else []
    return digest_of((ROOT / "scripts" / script, *files))


@cache
def digest_of(files):
    """Return the digest of files; a study of a thousand jobs asks for the same few ones."""
    return digest(files, ROOT / "src")


def of_kinds(module, *parts):
    """Return the files called `module` in the folders of the kinds of benchmarks."""
    folder = ROOT / "src" / "mmpref" / "benchmarks"
    kinds = sorted({part.kind.replace("-", "_") for part in parts})
    files = [folder / kind / f"{module}.py" for kind in kinds]
    return [file for file in files if file.is_file()]


def content(file):
    """Return a digest of a file of the workflow.

    As a parameter it is seen when it changes; as an input its absolute path would count, and a
    clone that was moved would train everything anew.
    """
    return sha256(ROOT / file)[:12]


def names(part_names):
    """Return a wildcard pattern of names; without any, one that matches nothing."""
    return "|".join(part_names) or "(?!)"


def of_source(table, *sources):
    """Return a wildcard pattern of the names in a part of the study that have one of `sources`."""
    return names(name for name, part in table.items() if part.source in sources)


PUBLIC = {
    name: part for name, part in study.benchmarks.items() if part.source == "public"
}
JUDGED = {name: part for name, part in PUBLIC.items() if part.judge}
DOWNLOADS = yaml.safe_load(
    (ROOT / "src" / "mmpref" / "downloads.yaml").read_text(encoding="utf-8")
)

TRAINED = {name: run for name, run in study.runs.items() if run.objective}
SAMPLED = {name: part for name, part in study.preferences.items() if part.sampler}


wildcard_constraints:
    model=names(study.models),
    dataset=names(study.datasets),
    preferences=names(study.preferences),
    run=names(study.runs),
    benchmark=names(study.benchmarks),
    seed=r"\d+",
    shard=r"\d+",
    image="|".join(IMAGES),
    download=names(DOWNLOADS),


def flags(**arguments):
    """Return the command line of a script, whose `main` has arguments of these names.

    A part of the study is written as JSON, a list as several values; what is None, False or empty
    is left out. Settings are apart from input and output: Snakemake does not rerun a job because of
    a parameter that is made from files, whatever else has changed in it.
    """
    words = []
    for name, value in arguments.items():
        if value is None or value is False or value == []:
            continue
        words.append(f"--{name.replace('_', '-')}")
        if isinstance(value, Part):
            words.append(value.model_dump_json())
        elif isinstance(value, (str, int, float, Path)):
            words += [] if value is True else [str(value)]
        else:
            words += map(str, value)
    return shlex.join(words)


def model_of(name):
    """Return the folder of a model."""
    model = study.models[name]
    return (
        model.folder if model.source in ("local", "hub") else f"resources/models/{name}"
    )


def settings_of_items(part):
    """Return what decides about the items of a benchmark, as JSON."""
    return part.model_dump_json(exclude=set(part.later), exclude_none=True)


def seed_of_items(part):
    return study.seed if part.seeded else None


def family_of(name):
    """Return the files of the family that a model belongs to, if it has one.

    A hub model whose study does not name it could be of any: what is downloaded must not count.
    """
    model = study.models[name]
    if model.source not in ("local", "hub"):
        return []
    config = Path(model.folder) / "config.json"
    found = None
    if config.is_file():
        found = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    if model.source == "hub":
        if model.family is None:
            return [file for file in families().values() if file]
        if found not in (None, model.family):
            raise WorkflowError(
                f"models.{name}.family: is {model.family!r}, but the model in {model.folder} is "
                f"of the family {found!r}; correct it"
            )
        found = model.family
    file = families().get(found)
    return [file] if file else []


def benchmark_data(wildcards):
    """Return the folder with a public benchmark's files; none for another benchmark."""
    part = PUBLIC.get(wildcards.benchmark)
    if part is None:
        return []
    return part.data or f"resources/benchmarks/{part.entry.data}"


def benchmark_files(wildcards):
    """Return what the items of a benchmark are made from, by name.

    `beside` is the download that a public benchmark expects beside its own.
    """
    part = study.benchmarks[wildcards.benchmark]
    if part.source == "dataset":
        return {"pairs": f"<results>/datasets/{part.dataset}/pairs.parquet"}
    if wildcards.benchmark not in PUBLIC:
        return {}
    beside = part.entry.beside if not part.data else None
    return {
        "data": benchmark_data(wildcards),
        "images": part.images or f"resources/benchmarks/{part.entry.images}",
        **({"beside": f"resources/benchmarks/{beside}"} if beside else {}),
        "nltk": nltk_data(wildcards),
    }


def nltk_data(wildcards):
    """Return the folder of NLTK's data for a benchmark that needs them and has none at hand."""
    part = PUBLIC.get(wildcards.benchmark)
    if part is None or not part.entry.nltk or "NLTK_DATA" in os.environ:
        return []
    return "resources/benchmarks/nltk_data"


def judgements(wildcards):
    """Return the judge's replies about a run's answers, for a benchmark that has a judge."""
    if wildcards.benchmark not in JUDGED:
        return []
    return "<results>/judgements/{run}/seed{seed}/{benchmark}.jsonl"


def judge_of(wildcards):
    """Return the settings of a benchmark's judge."""
    return study.judges[JUDGED[wildcards.benchmark].judge]


def judge_access(wildcards):
    """Say before anything runs that a judge's address or key is missing."""
    judge = judge_of(wildcards)
    for variable in (judge.url_variable, judge.key_variable):
        if not variable or os.environ.get(variable):
            continue
        # Without an executor nothing is run either: the rule graph, a summary.
        if workflow.dryrun or not workflow.executor_plugin:
            warn_of_missing(variable)
        else:
            raise WorkflowError(
                f"benchmarks.{wildcards.benchmark}: its judge {judge.model} needs the environment "
                f"variable {variable}; set it (a local server of the same API is a free judge: "
                f"point {judge.url_variable} at it and write `key_variable: null`), or leave the "
                "benchmark out"
            )
    return []


@cache
def warn_of_missing(variable):
    logger.warning(
        f"The environment variable {variable} is not set; a judge of this study needs it, and "
        "without it a real run ends before anything runs."
    )


def judge_arguments(wildcards):
    return flags(
        judge=judge_of(wildcards),
        judge_runs=JUDGED[wildcards.benchmark].judge_runs,
    )


def score_options(wildcards):
    """Return what the scorer of a public benchmark is told besides its files."""
    part = PUBLIC.get(wildcards.benchmark)
    if part is None:
        return {}
    options = {"public": part.benchmark, "similarity": part.similarity}
    if part.judge:
        options["judge"] = judge_of(wildcards)
        options["judge_runs"] = part.judge_runs
    return options


def needs_rejected(dataset):
    """Return whether some run trains on a dataset's own rejected answers."""
    return any(
        part.dataset == dataset and part.sampler is None
        for part in study.preferences.values()
    )


def hub_dataset_arguments(wildcards):
    """Return which files of which repository a folder of a hub dataset holds."""
    folder = "resources/datasets/{owner}/{repository}/{revision}/{selection}".format(
        **wildcards
    )
    parts = [part for part in study.datasets.values() if folder in part.inputs]
    if not parts:
        raise WorkflowError(
            f"{folder}: no dataset of the study has these files; ask for the pairs of a dataset "
            "(results/datasets/NAME/pairs.parquet), or give it `source: hub` in the study"
        )
    part = parts[0]
    return flags(
        repository=part.repository, revision=part.revision, files=sorted(part.files)
    )


def dataset_pairs(wildcards):
    """Return the pairs that a preference entry starts from."""
    dataset = study.preferences[wildcards.preferences].dataset
    return f"<results>/datasets/{dataset}/pairs.parquet"


def sampling_of(wildcards):
    """Return the settings of what makes the rejected answers of some preferences."""
    return study.preferences[wildcards.preferences].sampler


def sampler_code(wildcards):
    """Return the file of the sampler, which no import leads to."""
    name = study.preferences[wildcards.preferences].sampler_name
    return ROOT / "src" / "mmpref" / "sampling" / f"{name}.py"


def shards(wildcards):
    """Return the files of a sampling's shards, in the order of their numbers."""
    return [
        f"<results>/preferences/{wildcards.preferences}/shards/{shard}.parquet"
        for shard in range(sampling_of(wildcards).shards)
    ]


def run_model(wildcards):
    return model_of(study.runs[wildcards.run].model)


def memory_of(name, dtype=study.training.dtype):
    """Return the memory of a job that loads a model of the study, in MB."""
    return costs.memory_mb(study.models[name], dtype)


def gpus_of(name):
    """Return how many GPUs a job needs to hold a model of the study."""
    return costs.gpus(study.models[name], study.training.dtype)


@cache
def site():
    """Return the cluster in slurm/site.yaml; none while that is not filled in.

    A run on SLURM ends here without it, before anything is submitted. Snakemake does not say for
    which executor a dry run is made, so that one goes on.
    """
    file = ROOT / "slurm" / "site.yaml"
    try:
        found = load_site(file)
    except InputError as error:
        raise WorkflowError(str(error)) from None
    unfilled = found.unfilled()
    if not unfilled:
        return found
    if workflow.executor_plugin and workflow.executor_plugin.name == "slurm":
        raise WorkflowError(
            f"{file}: {', '.join(unfilled)}: still to be filled in; write your site's names there"
        )
    return None


def ask_site(rules):
    """Let the jobs of all rules ask for what the site's file says.

    What the command line says of a resource (--default-resources, --set-resources) is there already
    and stays.
    """
    for one in rules:
        on_gpus = "gres" in one.resources
        for name in ("slurm_account", "slurm_partition", "qos", "slurm_extra"):
            one.resources.setdefault(name, of_site(name, on_gpus))


def of_site(name, on_gpus):
    """Return a function of a resource; none for jobs elsewhere."""
    return lambda wildcards: site().resources(on_gpus)[name] if site() else None


def gres(gpus):
    """Return what SLURM is asked for: so many GPUs on each machine, of the site's type."""
    kind = f"{site().gpu_type}:" if site() and site().gpu_type else ""
    return f"gpu:{kind}{gpus}"


def several_nodes(wildcards, value):
    """Return `value` for a training on several machines, which then starts its steps itself."""
    return value if study.runs[wildcards.run].training.nodes > 1 else None


def minutes_of(kind, name):
    """Return the time limit of a job with a model of the study for which no rate is known."""
    return costs.limit(kind, study.models[name])


def training_memory(wildcards):
    """Return the memory of a training on each machine, in MB."""
    run = study.runs[wildcards.run]
    return costs.training_memory_mb(run, study.models[run.model])


def training_minutes(wildcards):
    """Return the time limit of a training."""
    run = study.runs[wildcards.run]
    hours = costs.training_hours(
        run, study.models[run.model], costs.pairs_of(study, run.preferences)
    )
    if hours is None:
        return minutes_of("training", run.model)
    return costs.minutes(hours, run.training.processes * run.training.nodes)


def reference_minutes(wildcards):
    """Return the time limit of a shard of reference log-probabilities: all epochs of one image."""
    users = [
        run
        for run in TRAINED.values()
        if (run.model, run.preferences) == (wildcards.model, wildcards.preferences)
    ]
    pairs = costs.pairs_of(study, wildcards.preferences)
    model = study.models[wildcards.model]
    hours = [costs.reference_hours(run, model, pairs) for run in users]
    if None in hours:
        return minutes_of("reference", wildcards.model)
    epochs = reference_of(wildcards).epochs
    return costs.minutes(max(hours) * epochs, study.reference.shards)


def run_pairs(wildcards):
    return (
        f"<results>/preferences/{study.runs[wildcards.run].preferences}/pairs.parquet"
    )


def run_reference(wildcards):
    """Return the files with the reference log-probabilities that a run needs."""
    run = study.runs[wildcards.run]
    folder = f"<results>/reference/{run.model}/{run.preferences}"
    return [f"{folder}/{image}.parquet" for image in images_of(run)]


def reference_of(wildcards):
    """Return what a file of reference log-probabilities holds: what some run needs of it."""
    stored = stored_for(
        study.runs.values(),
        wildcards.model,
        wildcards.preferences,
        wildcards.image,
        study.seed,
    )
    if stored is None:
        raise WorkflowError(
            f"no run of {wildcards.model} on {wildcards.preferences} looks at the image "
            f"{wildcards.image}; ask for the reference of a run in the study"
        )
    return stored


def deepspeed_of(wildcards):
    """Return DeepSpeed's configuration for a run, from the root of the repository."""
    return f"config/deepspeed/zero{study.runs[wildcards.run].training.zero_stage}.json"


def run_adapter(wildcards):
    """Return the adapter a run's answers come from; none for a model as it is."""
    if study.runs[wildcards.run].objective is None:
        return []
    return f"<results>/runs/{wildcards.run}/seed{wildcards.seed}/adapter"


def main_table(wildcards):
    """Return the main table of a study that scores its runs."""
    return "<results>/tables/main.csv" if study.benchmarks else []


# No card and no page has a model among its input: one that was removed since would be fetched
# again, and everything that was made with it would be made anew.
def origin_of(name, part="model"):
    """Return what the study knows of a model."""
    return origins.model_of(study, name, model_of(name), part)


def card_files(preferences):
    """Return what a card on some preferences is made from, by name."""
    dataset = study.preferences[preferences].dataset
    return {
        "pairs": f"<results>/preferences/{preferences}/pairs.parquet",
        "dataset": f"<results>/datasets/{dataset}/pairs.parquet",
    }


def card_arguments(preferences):
    """Return what a card on some preferences says besides the content of its files."""
    part = study.preferences[preferences]
    dataset = study.datasets[part.dataset]
    recipe = {
        "seed": study.seed,
        "dataset": dataset.model_dump(mode="json", exclude_none=True),
        **part.model_dump(mode="json", exclude={"dataset"}, exclude_none=True),
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {
        "preferences": preferences,
        "recipe": json.dumps(recipe),
        "dataset_name": part.dataset,
        "sampler": (origin_of(part.sampler.model, "sampler") if part.sampler else None),
        "version": project["project"]["version"],
    }


def elsewhere():
    """Return what the page says of the models and benchmarks that were not made here."""
    folders = {name: model_of(name) for name in study.models}
    models = origins.models_of(study, folders)
    return {
        "models": json.dumps([one.model_dump() for one in models]),
        "benchmarks": json.dumps(origins.benchmarks_of(study, DOWNLOADS)),
    }


def runs_and_seeds(pattern, runs=study.runs):
    """Return `pattern` for every run and seed."""
    return [
        pattern.format(run=name, seed=seed)
        for name, run in runs.items()
        for seed in run.seeds
    ]


def scores():
    """Return the verdicts on all runs and seeds, benchmark by benchmark."""
    return [
        path
        for benchmark in study.benchmarks
        for path in runs_and_seeds(
            f"<results>/scores/{{run}}/seed{{seed}}/{benchmark}.parquet"
        )
    ]


def study_outputs():
    """Return what `snakemake` makes: the report, or the adapters of a study without benchmarks."""
    if study.benchmarks:
        # The scores too: a job that cannot be planned is not an error to Snakemake while what is made
        # from its output exists.
        return [*scores(), "<results>/tables/main.csv", "<results>/report/index.html"]
    return runs_and_seeds("<results>/runs/{run}/seed{seed}/adapter", TRAINED)
