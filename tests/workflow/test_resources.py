"""Memory, time and GPUs of jobs, as Snakemake and its SLURM plugin get them."""

import re
from types import SimpleNamespace

import pytest
import yaml
from snakemake_executor_plugin_slurm.utils import set_gres_string

ON_GPUS = {"sample_shard", "reference_shard", "train", "merged_model", "respond_shard"}

COMMIT = "84e4488fffae48f9da316ec31288b7c03f102ec7"
JOB = re.compile(r"^(?:local)?rule (\w+):\n((?:    .*\n)+)", re.M)


def resources(checkout, *arguments):
    """Return by rule what its first job gets, and by rule and name of run what a training gets."""
    # Where a rule has a message, Snakemake prints that instead of resources.
    for rules in (checkout.folder / "workflow" / "rules").glob("*.smk"):
        text = rules.read_text()
        rules.write_text(re.sub(r"^    message:\n        .*\n", "", text, flags=re.M))
    found: dict[str, dict[str, str]] = {}
    for rule, text in JOB.findall(checkout.snakemake("--dry-run", *arguments)):
        line = re.search(r"^    resources: (.*)$", text, re.M)
        pairs = dict(one.split("=", 1) for one in line[1].split(", ")) if line else {}
        run = re.search(r"run=(\w+)", text)
        found.setdefault(rule, pairs)
        found.setdefault(f"{rule} {run[1] if run else ''}", pairs)
    return found


def gpus(found):
    return found.get("gpus_per_node"), found.get("gres")


def test_a_small_model_gets_a_gpu_and_a_rule_without_a_model_none(checkout):
    found = resources(checkout)
    for rule in ("sample_shard", "reference_shard", "respond_shard"):
        assert gpus(found[rule]) == ("1", "gpu:1"), rule
        assert found[rule]["mem_mb"] == "3000"
    # Two processes, which each load the model.
    assert gpus(found["train"]) == ("2", "gpu:2")
    assert found["train"]["mem_mb"] == "6000"
    others = {rule for rule in found if " " not in rule} - ON_GPUS
    assert {"toy_model", "dataset", "score", "tables", "sample_merge", "page"} <= others
    for rule in others:
        assert gpus(found[rule]) == (None, None), rule


@pytest.fixture
def with_34b(checkout):
    """The tiny study with a model of the hub that nobody has downloaded."""

    def change(study):
        size = {"family": "llava_next", "parameters": 34_750_000_000}
        large = {"source": "hub", "repository": "a/b", "revision": COMMIT, **size}
        study["models"] = {"large": large}
        study["preferences"]["bdhs"]["bdhs"]["model"] = "large"
        study["preferences"]["own"]["distortion"] = {"model": "large"}
        study["training"]["dtype"] = "bfloat16"
        for run in study["runs"].values():
            run["model"] = "large"
        study["runs"]["mdpo"]["training"] = {"zero_stage": 3}
        del study["published"]

    checkout.change_study(change)
    return checkout


def test_a_34b_model_gets_two_gpus_and_the_memory_it_takes(with_34b):
    merged = "results/runs/mdpo/seed0/merged"
    found = resources(with_34b, "results/report/index.html", merged)
    # 1.2 times two bytes for each parameter.
    one = 3000 + 83_400
    for rule in ("sample_shard", "reference_shard", "respond_shard"):
        assert gpus(found[rule]) == ("2", "gpu:2"), rule
        assert found[rule]["mem_mb"] == str(one)
    # The sum of weights and adapter is made in float32.
    assert gpus(found["merged_model"]) == ("2", "gpu:2")
    assert found["merged_model"]["mem_mb"] == str(3000 + 2 * 83_400)
    # Two processes: ZeRO-2 loads the model in each, ZeRO-3 half of it.
    assert gpus(found["train dpo"]) == gpus(found["train mdpo"]) == ("2", "gpu:2")
    assert found["train dpo"]["mem_mb"] == str(2 * one)
    assert found["train mdpo"]["mem_mb"] == str(2 * (3000 + 41_700))
    # Five times as large as the model that the limits are for.
    assert int(found["respond_shard"]["runtime"]) == pytest.approx(120 * 34.75 / 7.063, abs=1)
    assert int(found["sample_shard"]["runtime"]) == pytest.approx(240 * 34.75 / 7.063, abs=1)
    assert gpus(found["hub_model"]) == (None, None)


class Resources(dict):
    __getattr__ = dict.get


@pytest.mark.parametrize("number", [1, 2, 8])
def test_slurm_is_asked_for_the_gpus_of_the_job(checkout, number):
    job = SimpleNamespace(resources=Resources(gres=f"gpu:{number}", gpus_per_node=number))
    assert set_gres_string(job) == f" --gres=gpu:{number}"
    # A number there would stand above the rules'.
    profile = yaml.safe_load((checkout.folder / "slurm" / "profile.yaml").read_text())
    assert "gres" not in str(profile)
