"""What a change reruns, asked from Snakemake itself."""

import json

import pytest

AFTER_TRAINING = {"respond": 2, "score": 2, "tables": 1, "figures": 1, "page": 1, "all": 1}


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


def test_beta_reruns_the_run_and_what_follows(copy_of_finished):
    copy_of_finished.change_study(lambda study: study["runs"]["mdpo"]["objective"].update(beta=0.2))
    assert copy_of_finished.planned() == {"train": 1, **AFTER_TRAINING}


def test_one_more_seed_trains_that_seed(copy_of_finished):
    copy_of_finished.change_study(lambda study: study["runs"]["mdpo"].update(seeds=[0, 1]))
    assert copy_of_finished.planned() == {"train": 1, **AFTER_TRAINING}


def test_a_colour_reruns_the_report_only(copy_of_finished):
    copy_of_finished.change_study(lambda study: study["report"].update(colours={"mdpo": "#123456"}))
    assert copy_of_finished.planned() == {"figures": 1, "page": 1, "all": 1}


def test_mask_ratio_reruns_the_sampling_and_what_follows(copy_of_finished):
    copy_of_finished.change_study(
        lambda study: study["preferences"]["bdhs"]["bdhs"].update(mask_ratio=0.5)
    )
    planned = copy_of_finished.planned()
    assert planned["bdhs_shard"] == 2
    assert planned["train"] == 1
    assert "toy_model" not in planned


def test_a_comment_reruns_nothing(copy_of_finished):
    copy_of_finished.edit(
        "src/mmpref/training/forward.py", "import torch\n", "# Why not.\nimport torch\n"
    )
    copy_of_finished.edit("src/mmpref/sampling/masking.py", '"""', '"""Other words. ')
    assert copy_of_finished.planned() == {}


def test_code_of_the_tables_reruns_tables_and_report(copy_of_finished):
    copy_of_finished.edit("scripts/tables.py", '"%.6g"', '"%.7g"')
    assert copy_of_finished.planned() == {"tables": 1, "figures": 1, "page": 1, "all": 1}


def test_code_of_an_objective_reruns_the_training(copy_of_finished):
    copy_of_finished.edit(
        "src/mmpref/objectives/mdpo.py", "anchor_value: float = 0.0", "anchor_value: float = -0.0"
    )
    planned = copy_of_finished.planned()
    assert planned["train"] == 2
    assert not {"toy_model", "bdhs_shard", "reference_answers"} & set(planned)


def test_a_rule_asked_for_reruns_with_its_consumers(copy_of_finished):
    planned = copy_of_finished.planned("-R", "bdhs_merge")
    assert planned["bdhs_merge"] == 1
    assert planned["train"] == 1
    assert not {"toy_model", "bdhs_shard"} & set(planned)


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
