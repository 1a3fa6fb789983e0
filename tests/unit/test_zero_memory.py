"""Under ZeRO-3 no process holds the whole model: not while loading, training, saving, resuming."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from family_models import VICUNA, VICUNA_TEMPLATE, llama_tokenizer, llava_folder
from safetensors.torch import load_file
from test_families import write_study
from test_trainer import TWO_PROCESSES
from training_jobs import CONFIGURATIONS
from transformers import LlavaForConditionalGeneration

from mmpref.study import costs
from mmpref.study.models import LocalModel

LIVE = 4_000_000
"""Parameters that DeepSpeed may hold besides its part."""

SCRIPT = """
import json, os, sys, threading, time
from pathlib import Path

from training_jobs import files_of, run_of

from mmpref.training import trainer
from mmpref.training.processes import leave

FOLDER, STOPS = Path(sys.argv[1]), sys.argv[2] == "stop"
held = {"parameters": 0}


def resident():
    # Without pages of files, such as those of the checkpoint: they give way where memory is short.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def count(model):
    # What is held of a parameter: its part, and all of it while it is gathered.
    parts = [getattr(one, "ds_tensor", None) for one in model.parameters()]
    found = sum(one.nbytes for one in [*model.parameters(), *parts] if one is not None)
    held["parameters"] = max(held["parameters"], found)


class Counting(trainer.Policy):
    def __init__(self, vlm, adapted):
        super().__init__(vlm, adapted)
        held["loaded"] = held.pop("peak") - held["before"]
        count(self)
        for module in vlm.language_model.layers.modules():
            module.register_forward_hook(lambda *_: count(self))
        for parameter in self.parameters():
            if parameter.requires_grad:
                parameter.register_hook(lambda gradient: count(self))


def saving(folder, vlm, adapted, weights):
    save(folder, vlm, adapted, weights)
    count(adapted)


def starting():
    processes = start()
    held["before"] = held["peak"] = resident()

    def watch():
        while "peak" in held:
            held["peak"] = max(held["peak"], resident())
            time.sleep(0.002)

    threading.Thread(target=watch, daemon=True).start()
    return processes


def stepping(loop, batch):
    if STOPS and loop.done == 1:
        os._exit(0)
    return step(loop, batch)


save, start, step = trainer.save_adapter, trainer.Processes.start, trainer.Loop.step
trainer.Policy, trainer.save_adapter = Counting, saving
trainer.Processes.start, trainer.Loop.step = starting, stepping
run = run_of({"name": "dpo"}, zero_stage=3, save_steps=1)
files = files_of(FOLDER, run)
files = trainer.Files(files.model, files.pairs, files.reference[:1], FOLDER / "zero3.json")
trainer.train("run", run, 5, files, FOLDER / "run")
Path(FOLDER, f"held-{os.environ['RANK']}.json").write_text(json.dumps(held))
leave()
"""


def start(folder, what):
    """Run the script in two processes; return what they printed."""
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    environment["PYTHONPATH"] += f"{os.pathsep}{Path(__file__).parent}"
    # What is freed goes back at once, so that what is resident is what is held.
    environment |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    launcher = [sys.executable, "-m", "mmpref.training.launch", "--processes", "2", "--"]
    command = [*launcher, str(folder / "script.py"), str(folder), what]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory, picture):
    """A training, resumed after its first step, of 60 million parameters in several files."""
    folder = tmp_path_factory.mktemp("zero")
    text = {"hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 12}
    heads = {"num_attention_heads": 10, "num_key_value_heads": 10, "initializer_range": 0.02}
    kind, model = LlavaForConditionalGeneration, folder / "model"
    llava_folder(model, kind, llama_tokenizer(), {**VICUNA, **text, **heads}, VICUNA_TEMPLATE)
    kind.from_pretrained(model).save_pretrained(model, max_shard_size="30MB")
    (model / "model.safetensors").unlink()
    assert len(list(model.glob("*.safetensors"))) > 4
    write_study(folder, picture)
    settings = json.loads((CONFIGURATIONS / "zero3.json").read_text())
    settings["zero_optimization"] |= {
        "stage3_max_live_parameters": LIVE,
        "stage3_max_reuse_distance": LIVE,
        "stage3_prefetch_bucket_size": 1_000_000,
        "reduce_bucket_size": 1_000_000,
    }
    (folder / "zero3.json").write_text(json.dumps(settings))
    (folder / "script.py").write_text(SCRIPT)
    start(folder, "stop")
    assert "train: continuing after step 1 of 2" in start(folder, "end")
    return folder


@TWO_PROCESSES
@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_no_process_holds_the_whole_model(trained, rank):
    parameters = costs.parameters_of(LocalModel(source="local", folder=str(trained / "model")))
    assert parameters
    whole = 4 * parameters
    assert whole > 200e6
    held = json.loads((trained / f"held-{rank}.json").read_text())
    live = 4 * LIVE
    assert 0.5 * whole < held["parameters"] < 0.5 * whole + live
    # With what libraries and data take meanwhile.
    assert 0.5 * whole < held["loaded"] < 0.5 * whole + live + 60e6 < whole
    assert load_file(trained / "run" / "adapter" / "adapter_model.safetensors")
