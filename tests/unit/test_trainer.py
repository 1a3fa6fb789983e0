import fcntl
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import peft
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from training_jobs import compute, files_of, run_of

from mmpref.errors import InputError
from mmpref.logprobs.examples import Examples
from mmpref.logprobs.forward import log_probabilities
from mmpref.logprobs.reference import origin, read_reference
from mmpref.logprobs.views import CHOSEN, REJECTED, LogProbs
from mmpref.models import VisionLanguageModel
from mmpref.models.adapter import load_policy, with_adapter
from mmpref.records.pairs import Pairs, write_pairs
from mmpref.records.rows import Pair
from mmpref.study.reference import Stored
from mmpref.study.runs import Training
from mmpref.training.checkpoints import MOMENTS, Checkpoint, Checkpoints
from mmpref.training.data import Order, PairDataset
from mmpref.training.metrics import MetricsLog
from mmpref.training.policy import Policy, said_by

SCRIPT = Path(__file__).parent / "training_jobs.py"
TWO_PROCESSES = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="two processes want two cores"
)
PAIRS, EPOCHS, STEPS = 11, 2, 5
MAX_LENGTH = {"max_length": 100}
LONG_PAIR = Pair("long", (), "What?", "A cup. " * 9, "A dog.", "test", {})
CONTROL = Pair("control", (), "What?", "A cup.<eos>", "A dog.", "test", {})


@pytest.fixture(scope="module")
def study(tmp_path_factory, make_vlm, picture):
    """A folder with a tiny model, pairs and their reference."""
    folder = tmp_path_factory.mktemp("study")
    vlm = make_vlm("llava")
    vlm.model.save_pretrained(folder / "model")
    vlm.processor.hf.save_pretrained(folder / "model")
    pairs = []
    for i in range(PAIRS):
        file = io.BytesIO()
        picture(i, (20 + i, 24)).save(file, "PNG")
        chosen, rejected = "A cup. " * (1 + i * 3 % 5), "A dog. " * (1 + i * 2 % 7)
        pairs.append(Pair(f"p{i}", (file.getvalue(),), "What?", chosen, rejected, "test", {}))
    write_pairs(folder / "pairs.parquet", pairs)
    arguments = (folder / "model", folder / "pairs.parquet", "float32", 4)
    both = Stored(image="original", answers=("chosen", "rejected"))
    compute(folder / "original.parquet", *arguments, both)
    crops = Stored(image="crop_0_20", answers=("chosen",), epochs=EPOCHS, seed=7)
    compute(folder / "crop_0_20.parquet", *arguments, crops)
    # The same with two pairs more that do not fit, and those pairs alone that do.
    for name, some in (
        ("with long", [*pairs[:4], LONG_PAIR, *pairs[4:], CONTROL]),
        ("short", pairs),
    ):
        place = folder / name
        place.mkdir()
        (place / "model").symlink_to(folder / "model")
        write_pairs(
            place / "pairs.parquet",
            [one if one.images else replace(one, images=pairs[0].images) for one in some],
        )
        for kind in (both, crops):
            stored = kind.model_copy(update=MAX_LENGTH)
            files = (place / "model", place / "pairs.parquet")
            compute(place / f"{kind.image}.parquet", *files, "float32", 4, stored)
    return folder


def command(study, processes, jobs):
    launcher = [sys.executable, "-m", "mmpref.training.launch", "--processes", str(processes)]
    return [*launcher, "--", str(SCRIPT), str(study), json.dumps(jobs)]


def start(study, processes, jobs):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command(study, processes, jobs), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def metrics_of(output):
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def curve(output, name="loss"):
    return [metrics[name] for metrics in metrics_of(output)]


def adapter(output):
    return load_file(output / "adapter" / "adapter_model.safetensors")


PROJECTOR = {"projector_learning_rate": 0.02, "weight_decay": 0.1}
LONG = {**PROJECTOR, "batch_size": 2, "micro_batch_size": 1}
ALONE = {
    "plain": {},
    "projector": {"training": PROJECTOR},
    "micro 1": {"training": {"micro_batch_size": 1}},
    "micro 4": {"training": {"micro_batch_size": 4}},
    "stage 0": {"training": {"zero_stage": 0}},
    "stage 1": {"training": {"zero_stage": 1}},
    "checkpointing": {"training": {"gradient_checkpointing": True}},
    "dropout": {"training": {"lora_dropout": 0.5}},
    "dpo": {"objective": {"name": "dpo", "beta": 0.3}},
    "stage 3": {"training": {"zero_stage": 3, "gradient_checkpointing": True}},
    "projector stage 3": {"training": {"zero_stage": 3, **PROJECTOR}},
    "bad reference": {"original": "bad.parquet"},
    "busy": {},
    "long": {"training": LONG},
    "kept out": {"study": "with long", "training": MAX_LENGTH},
    "without them": {"study": "short", "training": MAX_LENGTH},
    "none left": {"study": "with long", "training": {**MAX_LENGTH, "batch_size": 40}},
}
TOGETHER = {
    "two, kept out": {"study": "with long", "training": MAX_LENGTH},
    "two": {},
    "two, micro 1": {"training": {"micro_batch_size": 1}},
    "two, projector": {"training": {"zero_stage": 1, **PROJECTOR}},
    "two, dropout": {"training": {"lora_dropout": 0.5}},
    "two, stage 0": {"training": {"zero_stage": 0, **PROJECTOR}},
    "two, stage 3": {"training": {"zero_stage": 3, **PROJECTOR}},
}


@pytest.fixture(scope="module")
def alone(study):
    """The trainings of one process."""
    table = pq.read_table(study / "original.parquet")
    chosen = table["sum/chosen"].to_pylist()
    chosen[6] = math.nan
    place = table.column_names.index("sum/chosen")
    bad = table.set_column(place, "sum/chosen", pa.array(chosen, pa.float32()))
    pq.write_table(bad, study / "bad.parquet")
    lock = study / "busy" / "checkpoints" / ".lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        return start(study, 1, ALONE)


@pytest.fixture(scope="module")
def together(study):
    """The trainings of two processes."""
    return start(study, 2, TOGETHER)


@pytest.fixture(scope="module")
def expected(study):
    """Losses, gradient norms and log-probabilities of a plain loop without DeepSpeed."""

    def train(objective, **training):
        run = run_of(objective, **training)
        settings = run.training
        vlm = VisionLanguageModel.load(study / "model")
        policy = Policy(vlm, with_adapter(vlm, settings, seed=5))
        files = files_of(study, run)
        pairs = Pairs(files.pairs)
        facts = origin(files.pairs, files.model, "float32")
        loss_of = run.objective
        views = loss_of.views
        reference = read_reference(files.reference, facts, len(pairs), views, False, EPOCHS)
        images = list(dict.fromkeys(view.image for view in views))
        examples = Examples(vlm.processor, pairs, images, ("chosen", "rejected"), reference.seeds)
        dataset = PairDataset(examples, reference, views)
        order = Order(pairs.answer_lengths.tolist(), settings.epochs, settings.batch_size, seed=5)
        trained = policy.trained()
        optimizer = torch.optim.AdamW(
            [
                {
                    "params": [parameter],
                    "lr": settings.projector_learning_rate if "projector" in name else 0.01,
                    "weight_decay": settings.weight_decay if parameter.dim() > 1 else 0,
                }
                for name, parameter in trained.items()
            ]
        )
        rates = [group["lr"] for group in optimizer.param_groups]
        losses, norms = [], []
        policy.train()
        for step in range(order.steps):
            # One step of warm-up (a tenth of five, rounded up), then a cosine down to zero.
            share = 0.5 * (1 + math.cos(math.pi * (step - 1) / (order.steps - 1))) if step else 0
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share
            batch = [dataset[turn] for turn in order.batch(step)]
            logps = said_by(policy, [scored.example for scored in batch], loss_of.views)
            stored = {
                view: LogProbs(
                    torch.tensor([scored.reference[view].sum for scored in batch]),
                    logps[view].tokens,
                )
                for view in loss_of.views
            }
            loss = loss_of(logps, stored).losses.mean()
            loss.backward()
            norms.append(torch.nn.utils.clip_grad_norm_(trained.values(), 1.0).item())
            losses.append(loss.item())
            optimizer.step()
            optimizer.zero_grad()
        policy.eval()
        with torch.no_grad():
            first = [dataset[turn].example for turn in order.batch(0)]
            return losses, norms, said_by(policy, first, (CHOSEN, REJECTED))

    return {
        "plain": train({"name": "mdpo"}),
        "projector": train({"name": "mdpo"}, **PROJECTOR),
        "dpo": train({"name": "dpo", "beta": 0.3}),
    }


def assert_is_curve(output, expected):
    losses, norms, _ = expected
    assert curve(output) == pytest.approx(losses, rel=1e-5)
    # The clipped norm in one sum or in parts: a little more rounding.
    assert curve(output, "grad_norm") == pytest.approx(norms, rel=1e-3)


@pytest.mark.parametrize("name", ["plain", "projector", "dpo"])
def test_training_is_that_of_a_plain_loop(study, alone, expected, name):
    assert len(expected[name][0]) == STEPS
    assert expected[name][0][-1] < 0.98 * expected[name][0][0]
    assert_is_curve(study / name, expected[name])


@pytest.mark.parametrize(
    "name", ["micro 1", "micro 4", "stage 0", "stage 1", "checkpointing", "stage 3"]
)
def test_passes_stages_and_checkpointing_only_round(study, alone, expected, name):
    assert_is_curve(study / name, expected["plain"])


def test_stage_3_trains_the_projector_alike(study, alone, expected):
    assert_is_curve(study / "projector stage 3", expected["projector"])


@TWO_PROCESSES
@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("two", "plain"),
        ("two, micro 1", "plain"),
        ("two, projector", "projector"),
        ("two, stage 0", "projector"),
        ("two, stage 3", "projector"),
    ],
)
def test_two_processes_are_one(study, alone, together, expected, name, like):
    assert_is_curve(study / name, expected[like])
    for key, tensor in adapter(study / like).items():
        torch.testing.assert_close(adapter(study / name)[key], tensor, rtol=1e-3, atol=1e-4)


@TWO_PROCESSES
def test_dropout_belongs_to_the_place_in_the_batch(study, alone, together):
    assert curve(study / "dropout") != pytest.approx(curve(study / "plain"), rel=1e-3)
    assert curve(study / "two, dropout") == pytest.approx(curve(study / "dropout"), rel=1e-5)


def test_kept_out_pairs_change_nothing_for_the_others(study, alone, expected):
    """The training is that of a file without them, and that of a study without a limit."""
    out, without = study / "kept out", study / "without them"
    assert (out / "metrics.jsonl").exists()
    assert curve(out, "epoch") == curve(without, "epoch")
    for output in (out, without):
        assert_is_curve(output, expected["plain"])
    for key, tensor in adapter(without).items():
        torch.testing.assert_close(adapter(out)[key], tensor, rtol=1e-3, atol=1e-4)
    assert json.loads((out / "run.json").read_text())["pairs"] == {"read": 13, "kept_out": 2}
    listed = [json.loads(line) for line in (out / "kept_out.jsonl").read_text().splitlines()]
    assert [(row["id"], row["field"]) for row in listed] == [
        ("long", "chosen"),
        ("control", "chosen"),
    ]
    assert listed[0]["limit"] == 100 < listed[0]["prompt_tokens"] + listed[0]["answer_tokens"]
    assert json.loads((without / "run.json").read_text())["pairs"] == {"read": 11, "kept_out": 0}
    assert (without / "kept_out.jsonl").read_text() == ""
    message = (study / "none left" / "error.txt").read_text()
    assert "11 pairs (2 more are kept out) in 2 epochs do not fill a batch of 40" in message


@TWO_PROCESSES
def test_two_processes_keep_the_same_pairs_out(study, alone, together, expected):
    assert_is_curve(study / "two, kept out", expected["plain"])
    files = [study / name / "kept_out.jsonl" for name in ("kept out", "two, kept out")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_metrics_of_every_step(study, alone):
    metrics = metrics_of(study / "plain")
    assert [line["step"] for line in metrics] == [1, 2, 3, 4, 5]
    views = ["chosen", "rejected", "chosen@crop_0_20"]
    assert list(metrics[0]) == [
        "step",
        "epoch",
        "learning_rate",
        "grad_norm",
        "loss",
        "rewards/accuracy",
        *(f"rewards/{view}" for view in views),
        *(f"logps/{view}" for view in views),
        "rewards/margin",
        "tokens_per_second",
        "peak_memory_mb",
    ]
    assert metrics[0]["loss"] == pytest.approx(3 * math.log(2))
    rates = [0, 0.01, 0.01 * (2 + math.sqrt(2)) / 4, 0.005, 0.01 * (2 - math.sqrt(2)) / 4]
    assert curve(study / "plain", "learning_rate") == pytest.approx(rates)
    assert metrics[-1]["epoch"] == pytest.approx(20 / 11)
    for line in metrics:
        assert line["rewards/margin"] == pytest.approx(
            line["rewards/chosen"] - line["rewards/rejected"]
        )
        assert 0 <= line["rewards/accuracy"] <= 1
        assert line["tokens_per_second"] > 0
        assert line["peak_memory_mb"] > 10


def test_tensorboard_has_the_metrics(study, alone):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(study / "plain" / "tensorboard"))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    assert losses == [
        (step, pytest.approx(loss, rel=1e-6)) for step, loss in enumerate(curve(study / "plain"), 1)
    ]


def test_what_is_left_of_a_finished_run(study, alone):
    left = {path.name for path in (study / "plain").iterdir()}
    assert left == {"adapter", "kept_out.jsonl", "metrics.jsonl", "run.json", "tensorboard"}
    resolved = json.loads((study / "plain" / "run.json").read_text())
    assert resolved["name"] == "plain"
    assert resolved["seed"] == 5
    assert resolved["run"]["training"]["learning_rate"] == 0.01


def test_the_log_is_short(alone):
    lines = alone.splitlines()
    assert any("train: step 5/5, loss" in line for line in lines)
    # A line of progress for each training, and nothing from the libraries but weight loading,
    # which scripts switch off.
    assert [line for line in lines if "train: " not in line and "Loading weights" not in line] == []


def test_a_loss_that_is_not_finite_names_step_and_pair(study, alone):
    message = (study / "bad reference" / "error.txt").read_text()
    order = Order(Pairs(study / "pairs.parquet").answer_lengths.tolist(), 2, 4, seed=5)
    step = next(step for step in range(5) if any(turn.number == 6 for turn in order.batch(step)))
    assert f"step {step + 1}: the loss of the pairs p6 is not finite" in message
    assert not (study / "bad reference" / "adapter").exists()


def batch_logps(vlm, study):
    pairs = Pairs(study / "pairs.parquet")
    examples = Examples(vlm.processor, pairs, ["original"], ["chosen", "rejected"], {})
    order = Order(pairs.answer_lengths.tolist(), EPOCHS, 4, seed=5)
    batch = [examples[turn] for turn in order.batch(0)]
    with torch.no_grad():
        return log_probabilities(vlm, batch, (CHOSEN, REJECTED))


@pytest.mark.parametrize("name", ["plain", "projector", "projector stage 3"])
def test_the_adapter_is_the_policy(study, alone, expected, name):
    trained = expected["projector" if "projector" in name else "plain"][2]
    for dtype, tolerance in [(torch.float32, 1e-3), (torch.bfloat16, 0.1)]:
        vlm = load_policy(study / "model", study / name / "adapter", dtype)
        assert next(vlm.model.parameters()).dtype == dtype
        found = batch_logps(vlm, study)
        for view in found:
            torch.testing.assert_close(
                found[view].sum, trained[view].sum, rtol=tolerance, atol=1e-2
            )
    base = batch_logps(load_policy(study / "model", None), study)
    assert (base[CHOSEN].sum - trained[CHOSEN].sum).abs().max() > 0.1


def test_the_adapter_loads_with_peft(study, alone, expected):
    vlm = VisionLanguageModel.load(study / "model")
    folder = study / "projector" / "adapter"
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(study / "model")
    assert settings["modules_to_save"] == ["multi_modal_projector"]
    peft.PeftModel.from_pretrained(vlm.model, folder)
    found = batch_logps(vlm, study)[REJECTED].sum
    torch.testing.assert_close(found, expected["projector"][2][REJECTED].sum, rtol=1e-3, atol=1e-2)


def test_only_the_language_model_gets_lora(vlm):
    policy = Policy(vlm, with_adapter(vlm, Training(lora_rank=2), seed=0))
    adapted = {name.split(".lora_")[0] for name in policy.trained()}
    blocks = vlm.model.config.text_config.num_hidden_layers
    assert len(adapted) == 7 * blocks
    assert all(".language_model.layers." in name for name in adapted)


def test_a_projector_is_trained_whole(vlm):
    training = Training(lora_rank=2, projector_learning_rate=0.1)
    trained = Policy(vlm, with_adapter(vlm, training, seed=0)).trained()
    assert {name.split(".")[-2] for name in trained if ".modules_to_save." in name} == {
        "linear_1",
        "linear_2",
    }


def test_the_start_belongs_to_the_seed(make_vlm):
    starts = [
        Policy(model, with_adapter(model, Training(lora_rank=2), seed)).trained()
        for model, seed in ((make_vlm("llava"), 0), (make_vlm("llava"), 0), (make_vlm("llava"), 1))
    ]
    names = [name for name in starts[0] if "lora_A" in name]
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in names)
    assert not any(torch.equal(starts[0][name], starts[2][name]) for name in names)


def test_load_policy_names_what_is_wrong(study, alone, saved_llava, tmp_path):
    with pytest.raises(InputError, match="no adapter here"):
        load_policy(saved_llava, tmp_path)
    adapter_folder = study / "plain" / "adapter"
    broken = tmp_path / "adapter"
    broken.mkdir()
    for file in adapter_folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    config = broken / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 4', '"r": 8'))
    with pytest.raises(InputError, match="does not fit the model"):
        load_policy(saved_llava, broken)


# --- order ---


@pytest.fixture(scope="module")
def lengths(study):
    return Pairs(study / "pairs.parquet").answer_lengths


def test_every_epoch_sees_every_pair_in_another_order(lengths):
    order = Order(lengths, epochs=3, batch_size=4, seed=0)
    epochs = [order.turns[i * PAIRS : (i + 1) * PAIRS] for i in range(3)]
    for number, turns in enumerate(epochs):
        assert sorted(turn.number for turn in turns) == list(range(PAIRS))
        assert {turn.epoch for turn in turns} == {number}
    assert len({tuple(turn.number for turn in turns) for turns in epochs}) == 3
    assert order.turns != Order(lengths, epochs=3, batch_size=4, seed=1).turns


@pytest.mark.parametrize(("size", "processes"), [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (1, 4)])
def test_processes_and_passes_share_the_same_batches(lengths, size, processes):
    order = Order(lengths, epochs=2, batch_size=4, seed=0)
    shares = [order.micro_batches(size, rank, processes, start=1) for rank in range(processes)]
    passes = 4 // (size * processes)
    assert all(len(share) == (order.steps - 1) * passes for share in shares)
    for step in range(1, order.steps):
        mine = slice((step - 1) * passes, step * passes)
        seen = [turn for share in shares for micro in share[mine] for turn in micro]
        key = lambda turn: (turn.epoch, turn.number)  # noqa: E731
        assert sorted(seen, key=key) == sorted(order.batch(step), key=key)
        assert set(seen) == set(order.turns[step * 4 : step * 4 + 4])


def test_too_few_pairs_for_a_batch(lengths):
    with pytest.raises(InputError, match="11 pairs in 1 epochs do not fill a batch of 12"):
        Order(lengths, epochs=1, batch_size=12, seed=0)


# --- checkpoints ---


def some_checkpoint(step):
    tensors = {"a.weight": torch.full((2, 3), float(step)), "b": torch.ones(1)}
    moments = {moment: {name: 2 * tensor for name, tensor in tensors.items()} for moment in MOMENTS}
    return Checkpoint(step, tensors, moments)


def test_checkpoints_come_back_and_only_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, {"seed": 1})
    assert checkpoints.latest() is None
    for step in (5, 10, 100):
        checkpoints.save(some_checkpoint(step))
    assert len(list(tmp_path.iterdir())) == 2
    found = checkpoints.latest()
    assert found.step == 100
    assert torch.equal(found.weights["a.weight"], torch.full((2, 3), 100.0))
    assert torch.equal(found.moments["exp_avg"]["a.weight"], torch.full((2, 3), 200.0))


def test_a_half_written_checkpoint_is_removed(tmp_path):
    checkpoints = Checkpoints(tmp_path, {"seed": 1})
    checkpoints.save(some_checkpoint(5))
    (tmp_path / ".checkpoint-00000010.17.partial.safetensors").write_bytes(b"half")
    checkpoints.clean()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000005.safetensors"]


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    Checkpoints(tmp_path, {"seed": 1, "training": {"a": 1, "b": 2}}).save(some_checkpoint(5))
    other = Checkpoints(tmp_path, {"seed": 2, "training": {"a": 1, "b": 3}})
    with pytest.raises(InputError, match=r"seed: 1, not 2; training\.b: 2, not 3.*remove"):
        other.latest()


def test_a_damaged_checkpoint_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path, {})
    checkpoints.save(some_checkpoint(5))
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(InputError, match="is damaged"):
        checkpoints.latest()


def test_metrics_have_every_step_once_after_a_restart(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    log = MetricsLog(file, tmp_path / "board", done=2, steps=3)
    log.write(3, {"loss": 1.0})
    log.close()
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2, 3]


# --- killed and started again ---


def kill_when(study, processes, job, name, steps):
    """Start a training and kill it, launcher and all, once so many steps are reported."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        command(study, processes, {name: job}), env=environment, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while sum(1 for file in reports(study, name) for _ in file.open()) < steps:
        assert running.poll() is None, "ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def reports(study, name):
    return list((study / name / "checkpoints").glob("*/metrics.jsonl"))


@TWO_PROCESSES
@pytest.mark.slow
def test_a_killed_training_ends_like_an_undisturbed_one(study):
    training = {**PROJECTOR, "lora_dropout": 0.3, "batch_size": 2, "micro_batch_size": 1}
    training |= MAX_LENGTH
    job = {"study": "with long", "training": {**training, "save_steps": 3}}
    start(study, 2, {"undisturbed": job})
    kill_when(study, 2, job, "killed", steps=5)
    assert len(list((study / "killed" / "checkpoints").glob("*/checkpoint-*"))) in (1, 2)
    # With a checkpoint at every step it is killed while saving, or right before or after.
    again = {"study": "with long", "training": {**training, "save_steps": 1}}
    kill_when(study, 2, again, "killed", steps=8)
    log = start(study, 2, {"killed": job})
    assert re.search("continuing after step ([789]|10) of 11", log)
    assert "Warning" not in log

    undisturbed, killed = adapter(study / "undisturbed"), adapter(study / "killed")
    assert set(undisturbed) == set(killed)
    for name, tensor in undisturbed.items():
        torch.testing.assert_close(killed[name], tensor, rtol=0, atol=1e-6)
    assert curve(study / "killed", "step") == list(range(1, 12))
    assert curve(study / "killed") == pytest.approx(curve(study / "undisturbed"), rel=1e-6)
    assert not (study / "killed" / "checkpoints").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 3), (0, 2), (1, 0)])
def test_one_process_continues_at_another_stage(study, alone, before, after):
    name = f"moved from {before}"
    begun = {**LONG, "zero_stage": before, "save_steps": 2}
    kill_when(study, 1, {"training": begun}, name, steps=3)
    changed = {**LONG, "zero_stage": after, "micro_batch_size": 2}
    log = start(study, 1, {name: {"training": changed}})
    assert re.search("continuing after step [2468] of 11", log)
    assert curve(study / name) == pytest.approx(curve(study / "long"), rel=1e-5)


def test_a_second_training_of_a_run_is_refused(study, alone):
    assert "another process is training" in (study / "busy" / "error.txt").read_text()
