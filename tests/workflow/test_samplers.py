"""The samplers of rejected answers, as rules."""


def test_each_sampler_has_its_shards(checkout):
    def add(study):
        of = {"model": "toy", "encoder": "exact"}
        distortion = {**of, "shards": 3}
        study["preferences"]["povid"] = {"dataset": "scenes", "distortion": distortion}
        study["preferences"]["noise"] = {"dataset": "scenes", "bdhs": {**of, "noise_step": 500}}

    checkout.change_study(add)
    files = [f"results/preferences/{name}/pairs.parquet" for name in ("povid", "noise")]
    planned = checkout.planned(*files)
    assert (planned["distortion_shard"], planned["sample_shard"]) == (3, 1)
    assert planned["sample_merge"] == 2

    checkout.change_study(
        lambda study: study["preferences"]["noise"]["bdhs"].update(mask_ratio=0.9)
    )
    printed = checkout.snakemake("--dry-run", *files, check=False)
    assert "preferences.noise.bdhs: " in printed
    assert "mask_ratio and noise_step are two variants; leave one of them out" in printed
