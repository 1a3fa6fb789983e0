"""What a change reruns, asked from Snakemake itself."""

import json
import shutil
from pathlib import Path

import pytest

from mmpref.digest import modules
from mmpref.sampling.rejected import SAMPLERS

ROOT = Path(__file__).parents[2]

REPORT = {"tables", "published", "figures", "page", "all"}
SCORES = {"score", *REPORT}
ANSWERS = {"respond_shard", "respond", *SCORES}
TRAINING = {"train", *ANSWERS}
REFERENCE = {"reference_shard", "reference", *TRAINING}
SAMPLING = {"sample_shard", "sample_merge", "sample_statistics", *REFERENCE}
DATA = {"dataset", "dataset_preferences", *SAMPLING}
MODEL = {"toy_model", *(DATA - {"dataset", "dataset_preferences"})}

GPU_WORK = {
    "sample_shard",
    "sample_merge",
    "reference_shard",
    "reference",
    "train",
    "respond_shard",
}

CODE = "\n_EDITED = 1\n"

# What is edited -> the rules that run again, and how often those that differ between runs.
MATRIX = {
    "reporting/figures.py": {"figures", "page", "all"},
    "reporting/page.py": {"page", "all"},
    "reporting/page.css": {"page", "all"},
    "reporting/tables.py": REPORT,
    "reporting/sources.py": {"page", "all"},
    "reporting/published.py": {"published", "page", "all"},
    "benchmarks/yesno/score.py": SCORES,
    "benchmarks/caption/score.py": SCORES,
    "benchmarks/mmhal/score.py": set(),
    "benchmarks/mmhal/judge.txt": set(),
    "scoring/metric.py": SCORES,
    "language/mentions.py": {"sample_statistics", *SCORES},
    "objectives/dpo.py": TRAINING,
    "objectives/mdpo.py": TRAINING,
    "objectives/objective.py": TRAINING,
    "training/loop.py": TRAINING,
    "logprobs/reference.py": REFERENCE,
    "logprobs/degradation.py": REFERENCE,
    "sampling/bdhs.py": SAMPLING,
    "sampling/splitting.py": {*SAMPLING},
    "sampling/decoding.py": SAMPLING,
    "sampling/responses.py": ANSWERS,
    "sampling/distortion.py": set(),
    "logprobs/encoding.py": SAMPLING,
    "hub.py": set(),
    "fetching.py": set(),
    "sampling/statistics.py": {"sample_statistics", "figures", "page", "all"},
    "datasets/toyworld.py": DATA,
    "datasets/local.py": set(),
    "toyworld/pretrain.py": MODEL,
    "progress.py": set(),
    "errors.py": set(),
    "cli.py": set(),
    "study/costs.py": set(),
    "study/report.py": set(),
    "study/origins.py": set(),
    "study/documentation.py": set(),
}

ONE_RUN = {
    **{"train": 1, "respond_shard": 2, "respond": 2, "score": 2},
    **dict.fromkeys(REPORT, 1),
}

# Of these rules only the jobs that the edited file is about.
JOBS = {
    "benchmarks/yesno/score.py": {"score": 3},
    "objectives/dpo.py": {"train": 1, "respond_shard": 2},
    "objectives/mdpo.py": {"train": 1, "respond_shard": 2},
    "objectives/objective.py": {"train": 2, "respond_shard": 4},
}


@pytest.mark.parametrize("file", MATRIX)
def test_an_edit_reruns_exactly_what_it_touches(copy_of_finished, file):
    with (copy_of_finished.folder / "src" / "mmpref" / file).open("a") as edited:
        edited.write(CODE if file.endswith(".py") else " ")
    planned = copy_of_finished.planned()
    assert set(planned) == MATRIX[file]
    assert {rule: planned[rule] for rule in JOBS.get(file, {})} == JOBS.get(file, {})


# What is only for people, in files that everything goes through.
WORDS = {
    "a comment": ("src/mmpref/logprobs/forward.py", "import torch\n", "# Why.\nimport torch\n"),
    "a docstring": ("src/mmpref/sampling/splitting.py", '"""', '"""Other words. '),
    "an error text": ("src/mmpref/records/images.py", "has zero bytes", "is empty"),
    "a type hint": ("src/mmpref/randomness.py", "*keys: str | int", "*keys: int | str"),
    "help of a command line": ("scripts/tables.py", "the study's, for the", "that of the"),
    "a setting's description": ("src/mmpref/objectives/mdpo.py", "delta in the paper", "delta"),
    "a line of progress": ("scripts/dataset.py", "pairs kept", "pairs"),
}


@pytest.mark.parametrize("what", WORDS)
def test_words_rerun_nothing(copy_of_finished, what):
    copy_of_finished.edit(*WORDS[what])
    assert copy_of_finished.planned() == {}


def test_no_gpu_work_depends_on_evaluation_or_reporting():
    """The matrix again, for every file there is: from the imports themselves."""
    source = ROOT / "src"
    scripts = [ROOT / "scripts" / f"{script}.py" for script in GPU_WORK]
    samplers = [source / "mmpref" / "sampling" / f"{name}.py" for name in SAMPLERS]
    used = modules([*scripts, *samplers], source)
    layers = {
        path.relative_to(source / "mmpref").parts[0] for path in used if source in path.parents
    }
    assert {"training", "sampling", "logprobs"} <= layers
    assert not layers & {"benchmarks", "scoring", "reporting", "language/mentions.py"}


def test_a_finished_study_has_nothing_to_do(finished):
    assert finished.planned() == {}


def test_outputs_are_whole(finished):
    table = (finished.folder / "results/tables/main.csv").read_text().splitlines()
    assert table[0] == "run,benchmark,metric,mean,low,high,seeds,items,best"
    assert {line.split(",")[0] for line in table[1:]} == {"base", "dpo", "mdpo"}
    page = (finished.folder / "results/report/index.html").read_text()
    assert "<img" in page
    for run in ("dpo", "mdpo"):
        lines = (finished.folder / f"results/runs/{run}/seed0/metrics.jsonl").read_text()
        assert [json.loads(line)["step"] for line in lines.splitlines()] == [1, 2, 3, 4]


def test_the_page_needs_no_model_that_was_removed(copy_of_finished):
    shutil.rmtree(copy_of_finished.folder / "resources" / "models" / "toy")
    with (copy_of_finished.folder / "src/mmpref/reporting/page.css").open("a") as edited:
        edited.write(" ")
    assert copy_of_finished.planned() == {"page": 1, "all": 1}


def test_beta_reruns_the_run_and_what_follows(copy_of_finished):
    copy_of_finished.change_study(lambda study: study["runs"]["mdpo"]["objective"].update(beta=0.2))
    assert copy_of_finished.planned() == {**ONE_RUN}


def test_one_more_seed_trains_that_seed(copy_of_finished):
    copy_of_finished.change_study(lambda study: study["runs"]["mdpo"].update(seeds=[0, 1]))
    assert copy_of_finished.planned() == {**ONE_RUN}


def test_a_colour_reruns_the_report_only(copy_of_finished):
    copy_of_finished.change_study(lambda study: study["report"].update(colours={"mdpo": "#123456"}))
    assert copy_of_finished.planned() == {"figures": 1, "page": 1, "all": 1}


@pytest.mark.parametrize(
    ("number", "rules"), [("54.7", {"published": 1, "page": 1, "all": 1}), ("49.0", {})]
)
def test_a_published_number_reruns_the_comparison_and_the_page(copy_of_finished, number, rules):
    copy_of_finished.edit("config/published/tiny.yaml", number, "50.0")
    assert copy_of_finished.planned() == rules


def test_mask_ratio_reruns_the_sampling_and_what_follows(copy_of_finished):
    copy_of_finished.change_study(
        lambda study: study["preferences"]["bdhs"]["bdhs"].update(mask_ratio=0.5)
    )
    planned = copy_of_finished.planned()
    assert planned["sample_shard"] == 2
    assert planned["train"] == 1
    assert "toy_model" not in planned


def test_code_of_the_tables_reruns_tables_and_report(copy_of_finished):
    copy_of_finished.edit("scripts/tables.py", '"%.6g"', '"%.7g"')
    assert copy_of_finished.planned() == dict.fromkeys(REPORT, 1)


def test_a_rule_asked_for_reruns_with_its_consumers(copy_of_finished):
    planned = copy_of_finished.planned("-R", "sample_merge")
    assert planned["sample_merge"] == 1
    assert planned["train"] == 1
    assert not {"toy_model", "sample_shard"} & set(planned)


def test_one_file_can_be_asked_for(copy_of_finished):
    target = "results/scores/mdpo/seed0/yesno.json"
    (copy_of_finished.folder / target).unlink()
    assert copy_of_finished.planned(target) == {"score": 1}
    copy_of_finished.snakemake(target)
    assert json.loads((copy_of_finished.folder / target).read_text())["benchmark"] == "yesno"


@pytest.mark.parametrize("option", ["--rulegraph", "--dag", "--filegraph"])
def test_graphs_are_plain_dot(finished, option):
    printed = finished.snakemake(option)
    graph = printed[printed.index("digraph") :]
    assert graph.rstrip().endswith("}")
    assert "train" in graph


def test_snakemakes_own_report(finished, tmp_path):
    finished.snakemake("--report", str(tmp_path / "report.html"))
    assert "main.csv" in (tmp_path / "report.html").read_text()
