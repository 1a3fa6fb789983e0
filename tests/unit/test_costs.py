import copy
import json
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
        (BunnyModel(source="bunny"), "bfloat16", 1, 3000 + 7649, 1),
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
    assert "large: 7.06 billion parameters; download 14.1 GB" in text
    assert "train mdpo, 2 seeds: 2.2; its reference: 0.1" in text
    assert "sampling and answers: unknown" in text
    unknown = plan(study(model=hub()), {"all": 1})
    assert "large: unknown parameters; download unknown" in unknown
    assert "train mdpo, 2 seeds: unknown; no rate is known" in unknown


def test_judge_calls_and_their_price():
    data = study().model_dump(mode="json", exclude_unset=True)
    judge = {"model": "gpt", "input_price": 30.0}
    mmhal = {"source": "public", "benchmark": "mmhal", "judge": "gpt"}
    text = plan(parse({**data, "judges": {"gpt": judge}, "benchmarks": {"m": mmhal}}, "f"), {})
    # 96 questions, one base and two seeds, 2,000 tokens each.
    assert "m: at most 288 calls to gpt; prompts for about 17.28" in text
    del judge["input_price"]
    text = plan(parse({**data, "judges": {"gpt": judge}, "benchmarks": {"m": mmhal}}, "f"), {})
    assert "288 calls to gpt; price unknown: `judges.gpt` has no `input_price`" in text
