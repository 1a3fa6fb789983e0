"""Diffusion noise on the model's pixels, and what is sampled under it."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForImageTextToText

from mmpref.errors import InputError
from mmpref.language.similarity import exact
from mmpref.logprobs.diffusion import signal_scale
from mmpref.models.family import join_pixels
from mmpref.randomness import generator
from mmpref.records.images import open_image
from mmpref.records.rows import Pair, merge
from mmpref.sampling import bdhs, distortion
from mmpref.sampling.noise import noisy
from mmpref.sampling.statistics import statistics
from mmpref.study.preferences import Bdhs, Distortion, Preferences

CHOSEN = [
    "A red cup stands on the table. In addition, there are two spoons.",
    "Yes, there is a dog.\n\n1. It is brown.\n2. It sleeps",
    "No.",
    "Nothing can be seen.",
]


@pytest.fixture
def pairs(picture):
    """Pairs of differing tiles, prompts and answers; the last has two images."""
    made = []
    for i, chosen in enumerate(CHOSEN):
        files = []
        for size in [(20 + 3 * i, 24), (30, 14)][: 1 + i // 3]:
            file = io.BytesIO()
            picture(i, size).save(file, "PNG")
            files.append(file.getvalue())
        made.append(Pair(f"pair {i}", tuple(files), "What? " * (i % 3 + 1), chosen, "", "test"))
    return made


def noise(**changes):
    fixed = {"model": "tiny", "encoder": "exact", "iterations": 3, "max_new_tokens": 10}
    return Bdhs(**{**fixed, "noise_step": 500, "batch_size": 2, **changes})


def reading(**changes):
    return Distortion(**{"model": "tiny", "encoder": "exact", "batch_size": 2, **changes})


def by_length(texts, others):
    return [float(len(text) % 2) for text in texts]


def prompt_of(vlm, pair):
    images = [open_image(data) for data in pair.images]
    return vlm.processor.encode_prompt(pair.prompt, images)


@pytest.mark.parametrize(
    ("step", "deviation", "signal"),
    [
        (100, 0.058, 0.998),
        (200, 0.110, 0.994),
        (300, 0.194, 0.981),
        (400, 0.327, 0.945),
        (500, 0.505, 0.863),
        (900, 0.931, 0.365),
    ],
)
def test_the_schedule_is_that_of_equation_8(vlm, pairs, step, deviation, signal):
    assert signal_scale(step) == pytest.approx(signal, abs=5e-4)
    # As arXiv 2407.02477 writes it: one step after the other.
    mean, variance = 1.0, 0.0
    for k in range(step + 1):
        beta = 1 / (1 + np.exp(6 - 12 * k / 999)) * (0.5e-2 - 1e-5) + 1e-5
        mean, variance = mean * np.sqrt(1 - beta), variance * (1 - beta) + beta
    assert (np.sqrt(variance), mean) == pytest.approx((deviation, signal), abs=5e-4)
    # And on the tensor itself: what is left of the pixels, and what was added.
    prompt = prompt_of(vlm, pairs[0])
    clean = prompt.pixels["pixel_values"]
    wide = replace(prompt, pixels={"pixel_values": clean.repeat(*[1] * (clean.dim() - 1), 40)})
    drowned = noisy(wide, step, np.random.default_rng(0)).pixels["pixel_values"]
    added = drowned - signal_scale(step) * wide.pixels["pixel_values"]
    assert float(added.std()) == pytest.approx(deviation, rel=0.02)
    assert abs(float(added.mean())) < 0.02 * deviation + 1e-3


def test_all_tiles_of_all_images_get_noise_of_their_own(vlm, pairs):
    prompt = prompt_of(vlm, pairs[3])
    before = {name: tensor.clone() for name, tensor in prompt.pixels.items()}
    drowned = noisy(prompt, 500, generator(0, "a"))
    clean = prompt.pixels["pixel_values"]
    added = (drowned.pixels["pixel_values"] - signal_scale(500) * clean).reshape(-1, 3 * 16 * 16)
    # LLaVA-NeXT: the whole image and up to four tiles of each.
    assert len(added) == (2 if clean.dim() == 4 else 10)
    assert (added.std(1) > 0.45).all()
    assert len(torch.unique(added, dim=0)) == len(added)
    # What is no pixel stays, and so does what came in.
    for name, tensor in before.items():
        assert torch.equal(prompt.pixels[name], tensor)
        if name != "pixel_values":
            assert torch.equal(drowned.pixels[name], tensor)
    again = noisy(prompt, 500, generator(0, "a"))
    assert torch.equal(again.pixels["pixel_values"], drowned.pixels["pixel_values"])
    with pytest.raises(InputError, match="gives no pixel_values"):
        noisy(replace(prompt, pixels={}), 500, generator(0, "a"))


def test_noise_reaches_the_model(vlm, pairs, tmp_path, monkeypatch):
    """What the vision tower gets is drawn as the record says, another in each iteration."""
    got = []
    family = type(vlm.family)
    inner = family.image_features

    def spying(self, model, prompts, device):
        got.append(join_pixels(prompts, device, model.dtype)["pixel_values"])
        return inner(self, model, prompts, device)

    monkeypatch.setattr(family, "image_features", spying)
    one = pairs[:1]
    (found,) = bdhs.sample_shard(vlm, lambda *_: [1.0], one, noise(), 7, tmp_path / "a")
    assert found.meta["bdhs"]["iteration"] == len(got) == 3
    for iteration, pixels in enumerate(got, 1):
        draws = generator(7, "bdhs-noise", one[0].id, iteration)
        expected = noisy(prompt_of(vlm, one[0]), 500, draws).pixels["pixel_values"]
        assert torch.equal(pixels, expected)
    list(distortion.sample_shard(vlm, exact, one, reading(), 7, tmp_path / "b"))
    draws = generator(7, "distortion-noise", one[0].id)
    assert torch.equal(got[-1], noisy(prompt_of(vlm, one[0]), 500, draws).pixels["pixel_values"])


def shard_of(sampler, vlm, pairs, seed, journal, *shard, **changes):
    if sampler == "bdhs":
        rows = bdhs.sample_shard(vlm, by_length, pairs, noise(**changes), seed, journal, *shard)
    else:
        settings = reading(**changes)
        rows = distortion.sample_shard(vlm, by_length, pairs, settings, seed, journal, *shard)
    return list(rows)


@pytest.mark.parametrize("sampler", ["bdhs", "distortion"])
def test_results_do_not_depend_on_batches_shards_or_order(sampler, vlm, pairs, tmp_path):
    expected = shard_of(sampler, vlm, pairs, 7, tmp_path / "a")
    assert shard_of(sampler, vlm, pairs, 7, tmp_path / "b", batch_size=16) == expected
    assert shard_of(sampler, vlm, pairs[::-1], 7, tmp_path / "c")[::-1] == expected
    parts = [shard_of(sampler, vlm, pairs, 7, tmp_path / f"d{i}", i, 2) for i in (0, 1)]
    assert list(merge(parts)) == expected
    other = shard_of(sampler, vlm, pairs, 8, tmp_path / "e")
    assert [pair.rejected for pair in other] != [pair.rejected for pair in expected]
    weak = shard_of(sampler, vlm, pairs, 7, tmp_path / "f", noise_step=1)
    assert [pair.rejected for pair in weak] != [pair.rejected for pair in expected]


@pytest.mark.parametrize("sampler", ["bdhs", "distortion"])
def test_a_journal_goes_on_and_is_of_one_noise(sampler, llava, pairs, tmp_path):
    expected = shard_of(sampler, llava, pairs, 7, tmp_path / "a")
    lines = (tmp_path / "a").read_bytes().splitlines(keepends=True)
    (tmp_path / "b").write_bytes(b"".join(lines[:3]) + b'{"id": "pair 2", "te')
    assert shard_of(sampler, llava, pairs, 7, tmp_path / "b") == expected
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    other = shard_of(sampler, llava, pairs, 7, tmp_path / "b", noise_step=900)
    assert other == shard_of(sampler, llava, pairs, 7, tmp_path / "c", noise_step=900)


def test_the_noise_variant_sees_all_tokens_and_is_guided_and_filtered(llava, pairs, tmp_path):
    found = shard_of("bdhs", llava, pairs, 7, tmp_path / "a")
    for pair in found:
        record = pair.meta["bdhs"]
        assert (record["noise_step"], record["visible"]) == (500, record["image_tokens"])
        assert record["free"] == (record["iteration"] == 3)
        assert bool(record["sentences"]) != record["free"]
    numbers = statistics(found)
    assert (numbers["variant"], numbers["noise_step"], numbers["visible_share"]) == (
        "noise", 500, 1.0
    )  # fmt: skip
    masked = noise(noise_step=None, mask_ratio=0.9)
    rows = bdhs.sample_shard(llava, by_length, pairs, masked, 7, tmp_path / "b")
    assert [statistics(rows)[name] for name in ("variant", "noise_step")] == ["attention", None]


@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_distortion_is_what_transformers_expects_at_each_token(make_vlm, family, pairs, tmp_path):
    vlm = make_vlm(family)
    folder = tmp_path / "model"
    vlm.model.save_pretrained(folder)
    vlm.processor.hf.save_pretrained(folder)
    plain = AutoModelForImageTextToText.from_pretrained(folder).eval()
    found = list(distortion.sample_shard(vlm, exact, pairs, reading(), 7, tmp_path / "a"))
    assert len({pair.rejected for pair in found}) == len(pairs)
    for pair, result in zip(pairs, found, strict=True):
        prompt = noisy(prompt_of(vlm, pair), 500, generator(7, "distortion-noise", pair.id))
        answer = vlm.processor.encode_answer(pair.chosen)
        with torch.no_grad():
            logits = plain(
                input_ids=torch.cat([prompt.input_ids, answer])[None],
                attention_mask=torch.ones(1, len(prompt) + len(answer), dtype=torch.long),
                **prompt.pixels,
            ).logits[0, len(prompt) - 1 : -1]
        logits[:, vlm.processor.unsampled_token_ids] = -torch.inf
        expected = logits.argmax(-1)
        said = [token for token in expected.tolist() if token != vlm.processor.eos_token_id]
        assert result.rejected == vlm.processor.decode(said).strip()
        record = result.meta["distortion"]
        assert record["tokens"] == len(answer)
        assert record["changed"] == int((expected != answer).sum()) > 0
        assert replace(result, rejected="", meta={}) == pair
    # What is known of an answer goes with it.
    again = list(bdhs.sample_shard(vlm, exact, found[:1], noise(), 7, tmp_path / "b"))
    assert again[0].meta.keys() == {"bdhs"}
    numbers = statistics(found)
    assert (numbers["variant"], numbers["noise_step"]) == ("distortion", 500)
    assert numbers["pairs"] == numbers["iterations"]["1"] == len(pairs)
    assert 0 < numbers["changed_share"] <= 1
    assert "visible_share" not in numbers
    json.dumps([numbers, *(pair.meta for pair in found)])


def test_answers_that_the_model_cannot_read_whole_are_left_out(llava, pairs, tmp_path):
    def sampled(name):
        return list(distortion.sample_shard(llava, exact, pairs, reading(), 7, tmp_path / name))

    expected = sampled("a")
    llava.model.config.text_config.max_position_embeddings = 95
    found = sampled("b")
    left = [number for number, pair in enumerate(found) if "unfit" not in pair.meta["distortion"]]
    assert 0 < len(left) < len(pairs)
    assert [found[number] for number in left] == [expected[number] for number in left]
    numbers = statistics(found)
    assert (numbers["pairs"], numbers["unfit"]) == (len(pairs), len(pairs) - len(left))
    assert sampled("b") == found
    llava.model.config.text_config.max_position_embeddings = 10
    assert statistics(sampled("c"))["unfit"] == len(pairs)


def test_settings_are_of_one_variant():
    assert noise().mask_ratio == 0
    assert noise(mask_ratio=0.0) == noise() == Bdhs.model_validate_json(noise().model_dump_json())
    assert Bdhs(model="tiny").mask_ratio == 0.99
    for wrong in ({"mask_ratio": 0.99}, {"noise_step": 0}, {"noise_step": 1000}):
        with pytest.raises(ValidationError):
            noise(**wrong)
    with pytest.raises(ValidationError, match="bdhs and distortion both make the rejected"):
        Preferences(dataset="a", bdhs=noise(), distortion=reading())
    assert Preferences(dataset="a").sampler is None
    assert Preferences(dataset="a", distortion=reading()).sampler == reading()
