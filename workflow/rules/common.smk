"""What the rules share: the study, names in paths, input functions."""

import json
import os
import shlex
import sys
import typing
from pathlib import Path

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "src"))

import yaml

from mmpref.digest import digest
from mmpref.errors import InputError
from mmpref.files import sha256
from mmpref.study.parts import DegradedImage, Part
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


def code(script, *parts, model=None):
    """Return the digest of a script, of the library it uses, and of the files of `parts`.

    A part of the study that has a file of its own (an objective, a dataset, the family of a
    `model`) is found by its name, so no import leads there.
    """
    files = [sys.modules[type(part).__module__].__file__ for part in parts]
    files += family_of(model) if model else []
    return digest([ROOT / "scripts" / script, *files], ROOT / "src")


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
if PUBLIC:
    # Takes a second, for every job of a cluster: only where it is needed.
    from mmpref.benchmarks.registry import BENCHMARKS
JUDGED = {name: part for name, part in PUBLIC.items() if part.judge}
DOWNLOADS = yaml.safe_load(
    (ROOT / "config" / "downloads.yaml").read_text(encoding="utf-8")
)

TRAINED = {name: run for name, run in study.runs.items() if run.objective}
SAMPLED = {name: part for name, part in study.preferences.items() if part.bdhs}


wildcard_constraints:
    model=names(study.models),
    dataset=names(study.datasets),
    preferences=names(study.preferences),
    run=names(study.runs),
    benchmark=names(study.benchmarks),
    seed=r"\d+",
    shard=r"\d+",
    degraded="|".join(typing.get_args(DegradedImage)),
    download=names(DOWNLOADS),


def flags(**arguments):
    """Return the command line of a script, whose `main` has arguments of these names.

    A part of the study is written as JSON, a list as several values; what is None, False or empty
    is left out.
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


def settings(part):
    """Return a part of the study as JSON, for a script's command line."""
    return part.model_dump_json()


def model_of(name):
    """Return the folder of a model."""
    model = study.models[name]
    return model.folder if model.source == "local" else f"resources/models/{name}"


def family_of(name):
    """Return the file of the family that a model folder of the user's belongs to, if it has one."""
    config = Path(model_of(name)) / "config.json"
    if study.models[name].source != "local" or not config.is_file():
        return []
    family = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    file = ROOT / "src" / "mmpref" / "models" / "families" / f"{family}.py"
    return [file] if file.is_file() else []


def benchmark_data(wildcards):
    """Return the folder with a public benchmark's files; none for another benchmark."""
    part = PUBLIC.get(wildcards.benchmark)
    if part is None:
        return []
    return part.data or f"resources/benchmarks/{BENCHMARKS[part.benchmark].data}"


def benchmark_beside(wildcards):
    """Return the download that a public benchmark expects beside its own."""
    part = PUBLIC[wildcards.benchmark]
    beside = BENCHMARKS[part.benchmark].beside
    return f"resources/benchmarks/{beside}" if beside and not part.data else []


def benchmark_images(wildcards):
    """Return the folder with a public benchmark's images: the user's, or of the download."""
    part = PUBLIC[wildcards.benchmark]
    return part.images or f"resources/benchmarks/{BENCHMARKS[part.benchmark].images}"


def nltk_data(wildcards):
    """Return the folder of NLTK's data for a benchmark that needs them and has none at hand."""
    part = PUBLIC.get(wildcards.benchmark)
    if part is None or not BENCHMARKS[part.benchmark].nltk or "NLTK_DATA" in os.environ:
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
        if variable and not os.environ.get(variable):
            raise WorkflowError(
                f"benchmarks.{wildcards.benchmark}: its judge {judge.model} needs the environment "
                f"variable {variable}; set it (a local server of the same API is a free judge: "
                f"point {judge.url_variable} at it and write `key_variable: null`), or leave the "
                "benchmark out"
            )
    return []


def score_options(wildcards, input):
    """Return what the scorer of a public benchmark is told besides its files."""
    part = PUBLIC.get(wildcards.benchmark)
    if part is None:
        return ""
    options = ["--public", part.benchmark, "--similarity", part.similarity]
    if part.judge:
        options += [
            "--judge",
            settings(judge_of(wildcards)),
            "--judgements",
            input.judgements,
        ]
        options += ["--judge-runs", str(part.judge_runs)]
    return shlex.join(options)


def needs_rejected(dataset):
    """Return whether some run trains on a dataset's own rejected answers."""
    return any(
        part.dataset == dataset and part.bdhs is None
        for part in study.preferences.values()
    )


def dataset_pairs(wildcards):
    """Return the pairs that a benchmark or a preference entry starts from."""
    if "benchmark" in wildcards.keys():
        dataset = study.benchmarks[wildcards.benchmark].dataset
    else:
        dataset = study.preferences[wildcards.preferences].dataset
    return f"<results>/datasets/{dataset}/pairs.parquet"


def run_model(wildcards):
    return model_of(study.runs[wildcards.run].model)


def run_pairs(wildcards):
    return (
        f"<results>/preferences/{study.runs[wildcards.run].preferences}/pairs.parquet"
    )


def run_reference(wildcards):
    """Return the files with the reference log-probabilities that a run needs."""
    run = study.runs[wildcards.run]
    folder = f"<results>/reference/{run.model}/{run.preferences}"
    files = {"answers": f"{folder}/answers.parquet"}
    for image in degraded_images(run):
        files["degraded"] = f"{folder}/degraded-{image}.parquet"
    return files


def degraded_images(run):
    """Return how images are degraded for a run's objective."""
    images = {view.image for view in run.objective.views} if run.objective else set()
    return sorted(images - {"original"})


def deepspeed_of(wildcards):
    """Return DeepSpeed's configuration for a run, from the root of the repository."""
    return f"config/deepspeed/zero{study.runs[wildcards.run].training.zero_stage}.json"


def run_adapter(wildcards):
    """Return the adapter a run's answers come from; none for a model as it is."""
    if study.runs[wildcards.run].objective is None:
        return []
    return f"<results>/runs/{wildcards.run}/seed{wildcards.seed}/adapter"


def epochs_of(wildcards):
    """Return for how many epochs images are degraded: enough for every run that asks."""
    return max(
        (
            run.training.epochs
            for run in TRAINED.values()
            if (run.model, run.preferences) == (wildcards.model, wildcards.preferences)
            and wildcards.degraded in degraded_images(run)
        ),
        default=1,
    )


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
        # The scores too: a job that cannot be planned is no error to Snakemake while what is made
        # from its output exists.
        return [*scores(), "<results>/tables/main.csv", "<results>/report/index.html"]
    return runs_and_seeds("<results>/runs/{run}/seed{seed}/adapter", TRAINED)
