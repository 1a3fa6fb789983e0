"""Mistakes end before anything runs, or in a log that says what to do."""

import json
import subprocess

import pytest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda study: study.update(modles={}),
            "study.yaml: modles: unknown key; did you mean 'models'?",
        ),
        (
            lambda study: study["runs"]["dpo"].update(model="toi"),
            "study.yaml: runs.dpo.model: unknown model 'toi'; did you mean 'toy'?",
        ),
    ],
)
def test_a_wrong_study_never_becomes_a_graph(checkout, change, message):
    checkout.change_study(change)
    printed = checkout.snakemake("--dry-run", check=False)
    assert message in printed
    assert "Job stats" not in printed
    assert "Traceback" not in printed


def local_study(checkout, rows):
    (checkout.folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    checkout.change_study(
        lambda study: study["datasets"].update(scenes={"source": "local", "file": "pairs.jsonl"})
    )


def test_no_usable_pair_is_an_error_and_a_quarantine_file(checkout):
    row = {"image": "missing.jpg", "prompt": "What?", "chosen": "A cup.", "rejected": "A dog."}
    local_study(checkout, [row, {**row, "prompt": "Where?"}])
    printed = checkout.snakemake("results/datasets/scenes/pairs.parquet", check=False)
    assert "No preference pair is left" in printed
    assert "missing.jpg" in printed
    assert "Traceback" not in printed
    assert not (checkout.folder / "results/datasets/scenes/pairs.parquet").exists()


def test_a_missing_file_is_named_before_anything_runs(checkout):
    checkout.change_study(
        lambda study: study["datasets"].update(scenes={"source": "local", "file": "no.jsonl"})
    )
    printed = checkout.snakemake("--dry-run", check=False)
    assert "Missing input files" in printed
    assert "no.jsonl" in printed


def test_profile_for_slurm_works_from_the_root(checkout):
    printed = checkout.snakemake("--dry-run", "--profile", "slurm")
    assert "Job stats" in printed


def test_the_demo_needs_no_arguments(checkout):
    demo = checkout.folder / "config" / "config.yaml"
    assert demo.is_file()
    command = checkout.command("--dry-run")
    without = [part for part in command if part not in ("--configfile", "study.yaml")]
    done = subprocess.run(
        without, cwd=checkout.folder, env=checkout.environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
