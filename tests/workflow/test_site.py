"""The file in which a site says what its cluster calls things."""

import re

import pytest
from test_resources import ON_GPUS, resources

from mmpref.errors import InputError
from mmpref.study.site import load

FILLED = {"account": "lab", "cpu_partition": "cpu", "gpu_partition": "gpu"}


def fill(checkout, **more):
    text = "".join(f"{key}: {value}\n" for key, value in {**FILLED, **more}.items())
    (checkout.folder / "slurm" / "site.yaml").write_text(text)


def test_jobs_ask_for_the_partition_of_their_kind_and_gpus_of_the_sites_type(checkout):
    fill(checkout, qos="long", gpu_type="a100", sbatch="--exclusive")
    found = resources(checkout, "--profile", "slurm")
    for rule in ("train", "respond_shard", "reference_shard", "sample_shard"):
        assert found[rule]["slurm_partition"] == "gpu", rule
        assert found[rule]["gres"].startswith("gpu:a100:"), rule
    for rule in {name for name in found if " " not in name} - ON_GPUS:
        assert found[rule]["slurm_partition"] == "cpu", rule
    for rule in ("train", "score"):
        assert found[rule]["slurm_account"] == "lab"
        assert found[rule]["qos"] == "long"
        assert found[rule]["slurm_extra"] == "--exclusive"


def test_one_value_on_the_command_line_leaves_the_others(checkout):
    fill(checkout)
    found = resources(checkout, "--profile", "slurm", "--default-resources", "slurm_account=other")
    for rule, partition in (("train", "gpu"), ("score", "cpu")):
        assert found[rule]["slurm_account"] == "other"
        assert found[rule]["slurm_partition"] == partition
        assert "qos" not in found[rule]


def test_only_a_training_on_several_machines_starts_its_own_steps(checkout):
    checkout.change_study(
        lambda study: study["runs"]["dpo"].update(training={"nodes": 2, "processes": 1})
    )
    found = resources(checkout)
    assert (found["train dpo"]["mpi"], found["train dpo"]["tasks"]) == ("srun", "2")
    assert found["train dpo"]["tasks_per_gpu"] == "0"
    assert not {"mpi", "tasks", "tasks_per_gpu"} & found["train mdpo"].keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acount: lab\n", "site.yaml: acount: unknown key; did you mean 'account'?"),
        ("account: 7\ncpu_partition: cpu\ngpu_partition: gpu\n", "site.yaml: account: "),
        ("", "site.yaml: has no keys; needed are account, "),
    ],
)
def test_a_mistake_is_named(tmp_path, text, message):
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        load(tmp_path / "site.yaml")


def test_a_clone_has_a_file_to_fill_in(checkout):
    site = load(checkout.folder / "slurm" / "site.yaml")
    assert site.unfilled() == ["account", "cpu_partition", "gpu_partition"]
