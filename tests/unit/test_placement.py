"""Models that no GPU has room for; the GPUs are pretended (`pretended_gpus.py`)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pretended_gpus import HOST, PretendedGpus, put, where
from test_families import FACTORIES, TURNS, examples, with_lora
from transformers import AutoConfig, AutoModelForImageTextToText, LlavaNextConfig

from mmpref.errors import InputError
from mmpref.logprobs.forward import log_probabilities
from mmpref.logprobs.views import CHOSEN, REJECTED
from mmpref.models import VisionLanguageModel
from mmpref.models.adapter import load_policy, save_adapter
from mmpref.models.placement import WEIGHTS, bytes_of, place, spread
from mmpref.randomness import generator
from mmpref.sampling.bdhs import visible_tokens
from mmpref.sampling.decoding import Job, Request, Sampler
from mmpref.sampling.distortion import expected_tokens
from mmpref.sampling.shards import model_fingerprint

GPUS = [torch.device("cuda", number) for number in range(3)]

sizes = st.integers(1, 100)


@given(st.lists(sizes, min_size=1), sizes, st.lists(st.integers(1, 3000), min_size=1, max_size=8))
def test_no_gpu_gets_more_than_it_has_room_for_or_than_its_part(layers, rest, rooms):
    places = spread(layers, rest, rooms)
    held = [
        sum(s for s, p in zip(layers, places, strict=True) if p == n) for n in range(len(rooms))
    ]
    on_gpus = [place for place in places if place is not None]
    # In order, and what has no room are the last layers.
    assert places == sorted(on_gpus) + [None] * (len(layers) - len(on_gpus))
    part = (rest + sum(layers)) / sum(rooms)
    for number, (bytes_, room) in enumerate(zip(held, rooms, strict=True)):
        if bytes_:
            assert bytes_ + (rest if number == 0 else 0) <= room
        assert bytes_ <= part * room + max(layers)


@given(st.lists(sizes, min_size=1), sizes, st.integers(1, 8))
def test_layers_lie_in_host_memory_only_where_there_is_no_room(layers, rest, gpus):
    """A layer more on each GPU would make all fit: what is lost is less than that."""
    room = (rest + sum(layers)) // gpus + max(rest, max(layers)) + max(layers)
    assert None not in spread(layers, rest, [room] * gpus)


def test_a_34b_model_is_halved():
    config = LlavaNextConfig(
        text_config={
            "model_type": "llama",
            "hidden_size": 7168,
            "intermediate_size": 20480,
            "num_attention_heads": 56,
            "num_hidden_layers": 60,
            "num_key_value_heads": 8,
            "vocab_size": 64064,
        },
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 1024,
            "image_size": 336,
            "intermediate_size": 4096,
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "patch_size": 14,
        },
    )
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    layers = [bytes_of(layer) for layer in model.get_decoder().layers]
    whole = bytes_of(model)
    rest = whole - sum(layers)
    assert whole == pytest.approx(2 * 34.75e9, rel=0.01)
    room = int(WEIGHTS * 80e9)
    assert None in spread(layers, rest, [room])
    places = spread(layers, rest, [room, room])
    for number, fixed in ((0, rest), (1, 0)):
        held = fixed + layers[0] * places.count(number)
        assert held == pytest.approx(whole / 2, abs=layers[0] / 2)
    # On four GPUs of 24 GB.
    small = spread(layers, rest, [int(WEIGHTS * 24e9)] * 4)
    assert None not in small
    assert small.count(0) < small.count(1)
    # On one: what fits, less than a layer is left.
    one = spread(layers, rest, [int(WEIGHTS * 24e9)])
    assert one.count(0) == (WEIGHTS * 24e9 - rest) // layers[0]


@pytest.fixture(scope="module", params=FACTORIES)
def folder(request, tmp_path_factory):
    made = tmp_path_factory.mktemp(request.param)
    FACTORIES[request.param](made)
    return made


def rooms_for(folder: Path, situation: str) -> list[int]:
    """Return the bytes of weights that GPUs have room for, so that a model has to be spread."""
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))
    layers = [bytes_of(layer) for layer in model.get_decoder().layers]
    rest = bytes_of(model) - sum(layers)
    one = max(layers)
    return {
        "two GPUs": [rest + one + one // 2, one * (len(layers) - 1)],
        "host memory": [rest + one // 2, one],
        "one small GPU": [rest + one + one // 2],
    }[situation]


SITUATIONS = ("two GPUs", "host memory", "one small GPU")


@pytest.fixture
def turns(picture):
    """A prompt with three images, and one without any."""
    return [
        (question, [picture(k, size) for k, size in enumerate(sizes)], chosen, rejected)
        for question, sizes, chosen, rejected in (TURNS[0], TURNS[2])
    ]


@pytest.fixture
def spreading(monkeypatch, folder):
    """Return a function that lets models be loaded onto pretended GPUs."""

    def start(situation):
        rooms = list(zip(GPUS, rooms_for(folder, situation), strict=False))
        monkeypatch.setattr("mmpref.models.vlm.rooms", lambda: iter(rooms))
        return rooms

    return start


def said(vlm, turns):
    """All that a model is asked in this project: log-probabilities, samples, answers, guesses."""
    batch = examples(vlm, turns)
    with torch.inference_mode():
        logps = log_probabilities(vlm, batch, (CHOSEN, REJECTED), by_token=True)
    greedy, sampled = [], []
    opening = vlm.processor.tokenizer("A red", add_special_tokens=False)["input_ids"]
    for number, example in enumerate(batch):
        prompt = example.prompts["original"]
        everything = torch.ones(len(prompt), dtype=torch.bool)
        greedy.append(Job(number, prompt, [Request([], np.zeros(8))], everything))
        draws = generator(0, "test", number)
        visible = visible_tokens(prompt, 0.6, draws)
        requests = [Request(context, draws.random(8)) for context in (opening, opening[:1])]
        sampled.append(Job(number, prompt, requests, visible))
    answers = dict(Sampler(vlm, 0, 1).complete(greedy, rows=2))
    samples = dict(Sampler(vlm, 1, 0.9).complete(sampled, rows=4))
    prompts = [example.prompts["original"] for example in batch]
    guesses = expected_tokens(vlm, prompts, [example.answers["chosen"] for example in batch])
    return {
        "log-probabilities": [logps[view].by_token.tolist() for view in (CHOSEN, REJECTED)],
        "answers": [[one.token_ids for one in answers[n]] for n in range(len(batch))],
        "samples": [[one.token_ids for one in samples[n]] for n in range(len(batch))],
        "guesses": [guess.tolist() for guess in guesses],
    }


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_spread_model_says_what_it_says_on_one_device(folder, turns, spreading, situation, capfd):
    expected = said(VisionLanguageModel.load(folder, device="cpu"), turns)
    rooms = spreading(situation)
    with PretendedGpus():
        vlm = VisionLanguageModel.load(folder)
        held = dict.fromkeys((*GPUS, HOST), 0)
        for tensor in [*vlm.model.parameters(), *vlm.model.buffers()]:
            held[where(tensor)] += tensor.nbytes
        assert vlm.device == GPUS[0]
        found = said(vlm, turns)
        after = dict.fromkeys((*GPUS, HOST), 0)
        for tensor in [*vlm.model.parameters(), *vlm.model.buffers()]:
            after[where(tensor)] += tensor.nbytes
    assert found == expected
    assert after == held
    for gpu, room in rooms:
        assert held[gpu] <= room
    assert held[GPUS[1]] > 0 or situation == "one small GPU"
    assert (held[HOST] > 0) == (
        situation != "two GPUs" and sum(r for _, r in rooms) < sum(held.values())
    )
    printed = capfd.readouterr().err
    assert printed.count("lie in host memory") == (held[HOST] > 0)
    assert printed.count("are spread over GPUs") == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_goes_where_its_layers_are(folder, turns, spreading, dtype, tmp_path):
    """Merged into the weights in float32, beside them in bfloat16."""
    vlm = VisionLanguageModel.load(folder, device="cpu")
    before = model_fingerprint(vlm)
    adapted = with_lora(vlm)
    weights = {name: one.detach() for name, one in adapted.named_parameters() if one.requires_grad}
    save_adapter(tmp_path / "adapter", vlm, adapted, weights)
    plain = load_policy(folder, tmp_path / "adapter", dtype)
    expected, digest = said(plain, turns), model_fingerprint(plain)
    # The first layer lies on the second GPU, the others do not.
    spreading("host memory")
    with PretendedGpus():
        found = load_policy(folder, tmp_path / "adapter", dtype)
        assert said(found, turns) == expected
        # What an interrupted job is told by: layers in host memory count too.
        assert model_fingerprint(found) == digest != before


def test_a_model_that_fits_is_moved_and_not_touched_otherwise(folder, turns, monkeypatch):
    monkeypatch.setattr("mmpref.models.vlm.rooms", lambda: iter([(GPUS[0], 10**9)]))
    with PretendedGpus():
        vlm = VisionLanguageModel.load(folder)
        assert {where(one) for one in vlm.model.parameters()} == {GPUS[0]}
        assert not any(
            module._forward_pre_hooks or module._forward_hooks for module in vlm.model.modules()
        )
        said(vlm, turns)


def test_a_gpu_too_small_for_embeddings_is_refused(llava):
    with pytest.raises(InputError, match=r"tiny: 0\.0 GB of it must lie on one GPU, cuda:0"):
        place(llava.model, "tiny", [(GPUS[0], 100)])


def test_pretended_gpus_are_as_strict_as_real_ones():
    with PretendedGpus():
        here, there = torch.ones(2, device="cuda:0"), torch.ones(2).to("cuda:1")
        assert there.device == GPUS[1]
        for mixed in (
            lambda: here + there,
            lambda: torch.cat([here, there]),
            lambda: here[torch.zeros(1, dtype=torch.long, device="cuda:1")],
            lambda: here + torch.ones(2),
            lambda: torch.nn.functional.linear(here, there),
        ):
            with pytest.raises(RuntimeError, match="on one device"):
                mixed()
        assert (here + there.to(here)).device == GPUS[0]
        assert here[torch.zeros(1, dtype=torch.long)].device == GPUS[0]
        assert (here + torch.tensor(1.0)).device == GPUS[0]
        assert put(torch.ones(1), GPUS[2]).sum().cpu().device == HOST
