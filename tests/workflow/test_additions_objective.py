"""The objective of docs/adding-an-objective.md, added to a checkout as its reader would."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

GUIDE = Path(__file__).parents[2] / "docs" / "adding-an-objective.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)


@pytest.mark.slow
def test_an_objective(checkout):
    module, its_test = blocks("python")
    file = checkout.folder / "src/mmpref/objectives/token_ipo.py"
    file.write_text(module)
    (checkout.folder / "test_token_ipo.py").write_text(its_test)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "test_token_ipo.py"],
        cwd=checkout.folder,
        env=checkout.environment | {"PYTHONPATH": str(checkout.folder / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout

    added = yaml.safe_load(blocks("yaml")[0])["runs"]
    checkout.change_study(lambda study: study["runs"].update(added))
    adapter = "results/runs/tokens/seed0/adapter"
    reference = {"reference_shard": 3, "reference": 3, "train": 1}
    before = {"toy_model": 1, "dataset": 1, "dataset_preferences": 1}
    assert checkout.planned(adapter) == before | reference
    checkout.snakemake(adapter)
    results = checkout.folder / "results"
    lines = (results / "runs/tokens/seed0/metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line) for line in lines]
    assert len(metrics) == 4
    # The policy starts as the reference: three times (1 / (2 tau))^2.
    assert abs(metrics[0]["loss"] - 3) < 1e-3
    assert {"rewards/chosen@black", "rewards/chosen@crop_0_20", "rewards/margin"} <= set(metrics[0])
    black = pq.read_table(results / "reference/toy/own/black.parquet")
    answer = ["sum/chosen", "tokens/chosen", "by_token/chosen"]
    assert black.column_names == ["id", "epoch", "kept_out", *answer]

    # Another setting, and an edit of the file, train this run anew and nothing else.
    assert checkout.planned(adapter) == {}
    checkout.change_study(lambda study: study["runs"]["tokens"]["objective"].update(tau=2.0))
    assert checkout.planned(adapter) == {"train": 1}
    checkout.change_study(lambda study: study["runs"].update(added))
    checkout.edit("src/mmpref/objectives/mdpo.py", "beta: Positive = 0.1", "beta: Positive = 0.2")
    assert checkout.planned(adapter) == {}
    checkout.edit("src/mmpref/objectives/token_ipo.py", "cap: Positive", "limit: Positive")
    assert checkout.planned(adapter) == {"train": 1}
    file.write_text(module)

    # A view that no stage makes is an error before anything runs.
    for view, message in [
        ('View("chosen", "rotated")', "asks for the image 'rotated', which no stage makes"),
        ('View("best", "black")', "asks for the answer 'best', which pairs do not have"),
    ]:
        file.write_text(module.replace('View("chosen", "black")', view))
        printed = checkout.snakemake("--dry-run", adapter, check=False)
        assert f"runs.tokens: the objective {message}" in printed
        assert "Job stats" not in printed
        assert "Traceback" not in printed
