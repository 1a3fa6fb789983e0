"""The samplers of rejected answers, as rules."""

import pytest


@pytest.fixture
def study(checkout):
    """The tiny study, with its pairs sampled in every way."""

    def add(study):
        of = {"model": "toy", "encoder": "exact"}
        study["preferences"] |= {
            "povid": {"dataset": "scenes", "distortion": {**of, "shards": 3}},
            "noise": {"dataset": "scenes", "bdhs": {**of, "noise_step": 500}},
        }

    checkout.change_study(add)
    return checkout


FILES = {name: f"results/preferences/{name}/pairs.parquet" for name in ("povid", "noise")}


def test_each_sampler_has_its_shards(study):
    assert study.planned(FILES["povid"])["sample_shard"] == 3
    assert study.planned(FILES["noise"])["sample_shard"] == 1
    assert study.planned(*FILES.values())["sample_merge"] == 2

    study.change_study(lambda study: study["preferences"]["noise"]["bdhs"].update(mask_ratio=0.9))
    printed = study.snakemake("--dry-run", *FILES.values(), check=False)
    assert "preferences.noise.bdhs: " in printed
    assert "mask_ratio and noise_step are two variants; leave one of them out" in printed


def test_an_edit_of_one_sampler_samples_nothing_of_the_other(study):
    study.change_study(lambda study: study["preferences"]["povid"]["distortion"].update(shards=1))
    study.snakemake(*FILES.values())
    edited = {"bdhs": "noise", "distortion": "povid"}
    for sampler, name in edited.items():
        file = study.folder / "src" / "mmpref" / "sampling" / f"{sampler}.py"
        before = file.read_text()
        file.write_text(before + "\n_EDITED = 1\n")
        assert study.planned(FILES[name]) == {"sample_shard": 1, "sample_merge": 1}
        (other,) = set(FILES) - {name}
        assert study.planned(FILES[other]) == {}
        file.write_text(before)


def test_both_take_the_papers_encoder_from_the_hub(study):
    def use_mpnet(study):
        study["preferences"]["povid"]["distortion"]["encoder"] = "mpnet"

    assert "hub_model" not in study.planned(*FILES.values())
    study.change_study(use_mpnet)
    assert study.planned(*FILES.values())["hub_model"] == 1
