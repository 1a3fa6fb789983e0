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

FOLDER, LIVE = Path(sys.argv[1]), int(sys.argv[2])
held = {"parameters": 0, "during": ""}


def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("RssAnon")}
    return int(sizes["RssAnon"]) * 1024


def count(model, during):
    # What is held of a parameter: its part, and all of it while it is gathered.
    found = sum(
        one.nbytes + (one.ds_tensor.nbytes if hasattr(one, "ds_tensor") else 0)
        for one in model.parameters()
    )
    if found > held["parameters"]:
        held.update(parameters=found, during=during)


class Counting(trainer.Policy):
    def __init__(self, vlm, adapted):
        super().__init__(vlm, adapted)
        count(self, "loading")
        for name, module in self.named_modules():
            module.register_forward_hook(lambda *_, name=name: count(self, f"forward of {name}"))
            module.register_full_backward_hook(lambda *_, name=name: count(self, f"backward of {name}"))


trainer.Policy = Counting
save = trainer.save_adapter


def save_and_count(folder, vlm, adapted, weights):
    count(adapted, "saving")
    save(folder, vlm, adapted, weights)
    count(adapted, "having saved")


trainer.save_adapter = save_and_count
start = trainer.Processes.start


def start_and_measure():
    processes = start()
    held["before"] = held["peak"] = resident()

    def watch():
        while True:
            held["peak"] = max(held["peak"], resident())
            time.sleep(0.002)

    threading.Thread(target=watch, daemon=True).start()
    return processes


trainer.Processes.start = start_and_measure
settings = json.loads((FOLDER / "zero3.json").read_text())
run = run_of({"name": "dpo"}, zero_stage=3, save_steps=1, epochs=1)
files = files_of(FOLDER, run)
files = trainer.Files(files.model, files.pairs, files.reference[:1], FOLDER / "zero3.json")
trainer.train("run", run, 5, files, FOLDER / "run")
held["peak"] = max(held["peak"], resident())
Path(FOLDER, f"held-{os.environ['RANK']}.json").write_text(json.dumps(held))
leave()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory, picture):
    """A training in two processes of a model of 40 million parameters, in several files."""
    folder = tmp_path_factory.mktemp("zero")
    text = {"hidden_size": 640, "intermediate_size": 1728, "num_hidden_layers": 12}
    heads = {"num_attention_heads": 10, "num_key_value_heads": 10, "initializer_range": 0.02}
    kind = LlavaForConditionalGeneration
    llava_folder(
        folder / "model", kind, llama_tokenizer(), {**VICUNA, **text, **heads}, VICUNA_TEMPLATE
    )
    kind.from_pretrained(folder / "model").save_pretrained(folder / "model", max_shard_size="30MB")
    (folder / "model" / "model.safetensors").unlink()
    assert len(list((folder / "model").glob("*.safetensors"))) > 4
    write_study(folder, picture)
    settings = json.loads(Path(__file__).parents[2].joinpath("config/deepspeed/zero3.json").read_text())
    settings["zero_optimization"] |= {
        "stage3_max_live_parameters": LIVE,
        "stage3_max_reuse_distance": LIVE,
        "stage3_prefetch_bucket_size": 1_000_000,
        "reduce_bucket_size": 1_000_000,
    }
    (folder / "zero3.json").write_text(json.dumps(settings))
    script = folder / "script.py"
    script.write_text(SCRIPT)
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    environment["PYTHONPATH"] += f"{os.pathsep}{Path(__file__).parent}"
    launcher = [sys.executable, "-m", "mmpref.training.launch", "--processes", "2", "--"]
    done = subprocess.run(
        [*launcher, str(script), str(folder), str(LIVE)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


def held_by(folder, rank):
    return json.loads((folder / f"held-{rank}.json").read_text())


@TWO_PROCESSES
@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_no_process_holds_the_whole_model(trained, rank):
    whole = 4 * costs.parameters_of(LocalModel(source="local", folder=str(trained / "model")))
    assert whole > 200e6
    held = held_by(trained, rank)
    print(held, whole)
    assert 0.5 * whole < held["parameters"] < 0.5 * whole + 4 * LIVE + 10e6
    assert held["peak"] - held["before"] < 0.5 * whole + 4 * LIVE + 60e6
    assert load_file(trained / "run" / "adapter" / "adapter_model.safetensors")
