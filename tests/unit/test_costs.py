import copy
import json
import re
import struct

import pytest
from test_study import STUDY

from mmpref.errors import InputError
from mmpref.study import costs
from mmpref.study.models import BunnyModel, HubModel, LocalModel, ToyModel
from mmpref.study.plan import plan
from mmpref.study.study import parse


def hub(parameters=None, family="llava", commit="0" * 40):
    return HubModel(
        source="hub",
        repository="owner/name",
        revision=commit,
        family=family,
        parameters=parameters,
    )


LLAVA = hub(7_063_427_072)


def study(objective="mdpo", model=LLAVA, **training):
    data = copy.deepcopy(STUDY)
    data["models"]["large"] = model.model_dump(exclude_none=True)
    data["training"] = {"batch_size": 32, "epochs": 3, **training}
    data["datasets"]["scenes"]["pairs"] = 10_080
    own = {"name": objective}
    data["runs"]["mdpo"] |= {"model": "large", "objective": own, "training": {}}
    return parse(data, "f")


# Host memory in MB and GPUs of a job that loads a model.
@pytest.mark.parametrize(
    ("model", "dtype", "processes", "memory", "gpus"),
    [
        (ToyModel(source="toyworld"), "float32", 2, 6000, 1),
        (LLAVA, "bfloat16", 1, 3000 + 16953, 1),
        (LLAVA, "bfloat16", 4, 4 * (3000 + 16953), 1),
        (LLAVA, "float32", 1, 3000 + 33905, 1),
        (hub(34_000_000_000), "bfloat16", 1, 3000 + 81600, 2),
        (hub(), "bfloat16", 1, 3000 + 19200, 1),
        (BunnyModel(source="bunny"), "bfloat16", 1, 3000 + 7638, 1),
        (hub(72_000_000_000), "bfloat16", 1, 3000 + 172_800, 3),
    ],
)
def test_memory_and_gpus_follow_from_the_model(model, dtype, processes, memory, gpus):
    assert costs.memory_mb(model, dtype, processes) == memory
    assert costs.gpus(model, dtype) == gpus


@pytest.mark.parametrize(
    ("objective", "model", "hours"),
    [
        ("dpo", LLAVA, 10_080 * 3 / 14.0 / 3600),
        ("mdpo", LLAVA, 10_080 * 3 / 7.8 / 3600),
        ("dpo", hub(14_126_854_144), 10_080 * 3 / 7.0 / 3600),
        ("dpo", hub(7_063_427_072, "llava_next"), 10_080 * 3 / 4.1 / 3600),
        ("dpo", hub(), None),
        ("dpo", hub(7_063_427_072, None), None),
    ],
)
def test_hours_follow_from_documented_rates_or_are_unknown(objective, model, hours):
    run = study(objective, model).runs["mdpo"]
    found = costs.training_hours(run, model, 10_080)
    assert found == (None if hours is None else pytest.approx(hours))


def test_checkpointing_takes_longer_and_float32_is_not_guessed():
    whole = costs.training_hours(study().runs["mdpo"], LLAVA, 1000)
    assert whole
    saving = study(gradient_checkpointing=True).runs["mdpo"]
    assert costs.training_hours(saving, LLAVA, 1000) == pytest.approx(1.47 * whole)
    reference = costs.reference_hours(saving, LLAVA, 1000)
    assert reference == pytest.approx(whole / 3 / 2.49)
    exact = study(dtype="float32").runs["mdpo"]
    assert costs.training_hours(exact, LLAVA, 1000) is None


# Of 1.2 times 14.1 GB; on each machine.
@pytest.mark.parametrize(
    ("stage", "processes", "nodes", "memory"),
    [
        (2, 4, 1, 4 * (3000 + 16953)),
        (2, 4, 2, 4 * (3000 + 16953)),
        (3, 1, 1, 3000 + 16953),
        (3, 4, 1, 4 * (3000 + 4239)),
        (3, 4, 2, 4 * (3000 + 2120)),
    ],
)
def test_a_training_loads_what_its_stage_leaves_whole(stage, processes, nodes, memory):
    run = study(zero_stage=stage, processes=processes, nodes=nodes).runs["mdpo"]
    assert costs.training_memory_mb(run, LLAVA) == memory


def test_a_time_limit_leaves_room_and_is_shared_by_gpus():
    assert costs.minutes(2.0) == 270
    assert costs.minutes(2.0, split=4) == 90


def test_a_limit_without_a_rate_grows_with_the_model():
    assert costs.limit("training", ToyModel(source="toyworld")) == 720
    assert costs.limit("training", hub()) == costs.limit("training", LLAVA) == 720
    assert costs.limit("answers", hub(2 * 7_063_427_072)) == 240


def test_zero_splits_what_its_stage_splits():
    run = study(processes=8, lora_rank=64).runs["mdpo"]
    adapter = 64 * 2_498_560
    weights = (7_063_427_072 + adapter) * 2
    sizes = [costs.gpu_bytes(run, LLAVA, stage) for stage in (0, 1, 2, 3)]
    assert sizes[0] == weights + adapter * 14
    assert sizes[1] == weights + adapter * 2 + adapter * 12 // 8
    assert sizes[2] == weights + adapter * 2 // 8 + adapter * 12 // 8
    assert sizes[3] == sizes[2] - weights + weights // 8 + 2_000_000_000
    assert costs.gpu_bytes(run, hub(), 2) is None


def safetensors(path, shapes):
    header = {name: {"dtype": "F16", "shape": shape} for name, shape in shapes.items()}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


def test_weights_on_disk_are_counted(tmp_path):
    safetensors(tmp_path / "model-1.safetensors", {"a": [3, 5], "b": [7]})
    safetensors(tmp_path / "model-2.safetensors", {"c": [2, 2, 2]})
    model = LocalModel(source="local", folder=str(tmp_path))
    assert costs.parameters_of(model) == 15 + 7 + 8


def test_a_broken_file_of_weights_is_named(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match=r"model.safetensors: its header cannot be read"):
        costs.parameters_of(LocalModel(source="local", folder=str(tmp_path)))


def test_a_config_alone_gives_an_estimate(tmp_path):
    shape = {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 11008}
    text = {**shape, "vocab_size": 32000, "num_attention_heads": 32}
    (tmp_path / "config.json").write_text(json.dumps({"text_config": text}))
    found = costs.parameters_of(LocalModel(source="local", folder=str(tmp_path)))
    # LLaMA-7B has 6,738,415,616; norms are left out.
    assert found == pytest.approx(6_738_415_616, rel=1e-3)


def test_the_plan_says_what_it_knows_and_what_not():
    text = plan(study(), {"train": 2, "all": 1})
    assert "in all: 3" in text
    assert "large: 7.06 billion parameters" in text
    assert "model large: 14.1 GB" in text
    # Two seeds: 300 prompts of 636 tokens, and 10 batches of 80 steps of 0.04 s.
    assert re.search(r"\n  mdpo +2 +2\.2 +0\.0\n", text)
    assert re.search(r"\n  base +1 +- +unknown\n", text)
    assert "reference log-probabilities: 0.3" in text
    assert "in all: more than 2.4" in text
    unknown = plan(study(model=hub()), {"all": 1})
    assert "large: unknown parameters" in unknown
    assert "model large: unknown" in unknown
    assert re.search(r"\n  mdpo +2 +unknown +unknown\n", unknown)


def test_answers_and_samples_take_at_most_what_their_limits_allow():
    data = study().model_dump(mode="json", exclude_unset=True)
    data["datasets"] = {"some": {"source": "povid", "subset": 3200}}
    data["preferences"]["sampled"] = {"dataset": "some", "bdhs": {"model": "large"}}
    data["benchmarks"] = {
        "pope": {"source": "public", "benchmark": "pope-coco", "max_new_tokens": 16}
    }
    whole = parse(data, "f")
    # 9,000 prompts of 636 tokens at 28,000 a second, and 282 batches of 16 steps.
    hours = costs.answer_hours(whole, whole.runs["mdpo"], whole.benchmarks["pope"])
    assert hours == pytest.approx((9000 * 636 / 28_000 + 282 * 16 * 0.04) / 3600)
    # Five tries; 1 % of the image is looked at, and 16 answers get a token in a step.
    tries = 5 * (3200 * 0.01 * 636 / 28_000 + 200 * 64 * 0.04)
    assert costs.sampling_hours(whole, "sampled") == pytest.approx(tries / 3600)
    data["models"]["large"]["family"] = "idefics3"
    other = parse(data, "f")
    assert costs.answer_hours(other, other.runs["mdpo"], other.benchmarks["pope"]) is None
    assert costs.sampling_hours(other, "sampled") is None


@pytest.mark.parametrize(
    ("dataset", "pairs"),
    [
        ({"source": "povid"}, 17_000),
        ({"source": "povid", "subset": 5000}, 5000),
        ({"source": "rlhf_v", "subset": 9000}, 5733),
        ({"source": "vlfeedback", "pairing": "extremes"}, 80_258),
        ({"source": "vlfeedback", "subset": 300}, 300),
        ({"source": "toyworld", "pairs": 10}, 10),
        ({"source": "local", "file": "mine.jsonl"}, None),
        ({"source": "local", "file": "mine.jsonl", "subset": 7}, 7),
    ],
)
def test_pairs_are_those_of_the_subset_or_of_the_whole_dataset(dataset, pairs):
    data = copy.deepcopy(STUDY)
    data["datasets"]["scenes"] = dataset
    assert costs.pairs_of(parse(data, "f"), "sampled") == pairs


def test_a_reference_is_counted_once_for_all_runs_and_a_degraded_image_in_each_epoch():
    whole = study()
    original = costs.stored_hours(whole, "large", "sampled", "original")
    crops = costs.stored_hours(whole, "large", "sampled", "crop_0_20")
    assert original == pytest.approx(10_080 / 14.0 / 2.49 / 3600)
    assert crops == pytest.approx(3 * 10_080 * (1 / 7.8 - 1 / 14.0) / 2.49 / 3600)
    assert costs.stored_hours(whole, "large", "sampled", "black") is None


def test_judge_calls_and_their_price():
    data = study().model_dump(mode="json", exclude_unset=True)
    judge = {"model": "gpt", "input_price": 30.0}
    mmhal = {"source": "public", "benchmark": "mmhal", "judge": "gpt"}
    text = plan(parse({**data, "judges": {"gpt": judge}, "benchmarks": {"m": mmhal}}, "f"), {})
    # 96 questions, one base and two seeds, 2,000 tokens each.
    assert "m: at most 288 calls to gpt; prompts for about 17.28" in text
    vet = {"source": "public", "benchmark": "mm-vet", "judge": "gpt", "judge_runs": 5}
    both = {**data, "judges": {"gpt": judge}, "benchmarks": {"m": mmhal, "v": vet}}
    text = plan(parse(both, "f"), {})
    assert "v: at most 3,270 calls to gpt; price unknown: nobody has counted the tokens" in text
    assert "prompts in all: more than 17.28" in text
    del judge["input_price"]
    text = plan(parse({**data, "judges": {"gpt": judge}, "benchmarks": {"m": mmhal}}, "f"), {})
    assert "288 calls to gpt; price unknown: `judges.gpt` has no `input_price`" in text


def test_downloads_are_listed_with_what_is_there_and_what_people_must_get(tmp_path, monkeypatch):
    data = copy.deepcopy(STUDY)
    data["datasets"]["scenes"] = {"source": "mdpo"}
    data["benchmarks"] = {"amber": {"source": "public", "benchmark": "amber-generative"}}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resources/benchmarks/amber-images").mkdir(parents=True)
    text = plan(parse(data, "f"), {})
    assert "vlfeedback-images: 2.9 GB\n" in text
    assert "amber-images: unknown, is there\n" in text
    assert "in all, without what is there: 2.9 GB, and 3 of unknown size" in text
    by_hand = "resources/benchmarks/by-hand/mdpo/vlfeedback_llava_10k.json\n"
    assert f"must be downloaded manually: {by_hand}" in text
