"""What is promised of every family of models, on a tiny random checkpoint of each.

The other side is always the model of transformers on its processor's own encoding of the whole.
"""

import importlib
import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from test_trainer import TWO_PROCESSES, adapter, curve, start
from training_jobs import compute

from mmpref.logprobs.forward import Example, log_probabilities
from mmpref.logprobs.views import CHOSEN, REJECTED
from mmpref.models import ControlToken, VisionLanguageModel
from mmpref.models.adapter import save_adapter, with_adapter
from mmpref.randomness import generator
from mmpref.records.pairs import write_pairs
from mmpref.records.rows import Pair
from mmpref.sampling.bdhs import Seen, visible_tokens
from mmpref.sampling.decoding import Job, Request, Sampler, prefill
from mmpref.study.reference import Stored
from mmpref.study.runs import Training

FACTORIES: dict[str, Any] = {}
for path in sorted(Path(__file__).parent.glob("family_models*.py")):
    FACTORIES |= importlib.import_module(path.stem).FACTORIES

TURNS = [
    ("What is in the pictures?", [(24, 18), (12, 40), (33, 16)], "A cup.", "A red cup, the oven."),
    ("Is there a cat?", [(70, 24)], "No, there is no cat.", "Yes."),
    ("Who are you?", [], "the cup", "An assistant."),
]
"""Question, sizes of images, chosen, rejected: several images, one, and none."""


@pytest.fixture(scope="module", params=FACTORIES)
def folder(request, tmp_path_factory):
    """The folder of a tiny model of each family."""
    made = tmp_path_factory.mktemp(request.param)
    FACTORIES[request.param](made)
    return made


@pytest.fixture
def loaded(folder):
    return VisionLanguageModel.load(folder)


@pytest.fixture
def turns(picture):
    return [
        (question, [picture(10 * i + k, size) for k, size in enumerate(sizes)], chosen, rejected)
        for i, (question, sizes, chosen, rejected) in enumerate(TURNS)
    ]


def own_encoding(vlm, question, images, answer=()):
    """All that the processor makes of a prompt, and the token ids of an answer after it."""
    content = [{"type": "image", "image": image} for image in images]
    content.append({"type": "text", "text": question})
    encoded = dict(
        vlm.processor.hf.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
    )
    length = encoded["input_ids"].shape[1]
    added = {"input_ids": torch.as_tensor(answer, dtype=torch.long)}
    added["attention_mask"] = torch.ones_like(added["input_ids"])
    for name, tensor in encoded.items():
        if tensor.shape == (1, length):
            # What an answer is of is text, type 0.
            more = added.get(name, torch.zeros_like(added["input_ids"]))
            encoded[name] = torch.cat([tensor, more[None].to(tensor.dtype)], 1)
    return encoded, length


def plain_logps(vlm, question, images, answer):
    """Log-probability of an answer by the model's own forward, logits everywhere."""
    encoded, length = own_encoding(vlm, question, images, answer)
    logps = vlm.model(**encoded, use_cache=False).logits[0, length - 1 : -1].log_softmax(-1)
    return logps.gather(1, answer[:, None]).sum()


def examples(vlm, turns):
    return [
        Example(
            str(number),
            {"original": vlm.processor.encode_prompt(question, images)},
            {
                "chosen": vlm.processor.encode_answer(chosen),
                "rejected": vlm.processor.encode_answer(rejected),
            },
        )
        for number, (question, images, chosen, rejected) in enumerate(turns)
    ]


def gradients(vlm):
    found = {
        name: parameter.grad
        for name, parameter in vlm.model.named_parameters()
        if parameter.grad is not None
    }
    vlm.model.zero_grad(set_to_none=True)
    return found


def with_lora(vlm, seed=0):
    """The model with LoRA and a projector that are not what they were at the start."""
    training = Training(lora_rank=4, lora_alpha=8, projector_learning_rate=0.1)
    adapted = with_adapter(vlm, training, seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return adapted


def test_a_prompt_is_encoded_as_by_the_processor(loaded, turns):
    for question, images, *_ in turns:
        prompt = loaded.processor.encode_prompt(question, images)
        expected, _ = own_encoding(loaded, question, images)
        assert prompt.input_ids.equal(expected["input_ids"][0])
        assert prompt.is_image.any() == bool(images)
        pixels = {name for name in expected if "pixel" in name or "image" in name}
        assert set(prompt.pixels) == pixels
        for name in pixels:
            assert prompt.pixels[name].equal(expected[name]), name


def test_an_answer_follows_its_prompt_as_in_the_template(loaded, turns):
    """What is trained on is what the processor makes of the whole conversation."""
    for question, images, chosen, rejected in turns:
        prompt = loaded.processor.encode_prompt(question, images)
        content = [{"type": "image", "image": image} for image in images]
        content.append({"type": "text", "text": question})
        for answer in (chosen, rejected):
            whole = loaded.processor.hf.apply_chat_template(
                [
                    {"role": "user", "content": content},
                    {"role": "assistant", "content": [{"type": "text", "text": answer}]},
                ],
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )["input_ids"][0]
            ours = torch.cat([prompt.input_ids, loaded.processor.encode_answer(answer)])
            assert whole[: len(ours) - 1].equal(ours[:-1])
            # Some templates write a space for the end of a turn, or a line break after it.
            rest = loaded.processor.tokenizer.decode(whole[len(ours) - 1 :]).strip()
            eos = loaded.processor.tokenizer.convert_ids_to_tokens(loaded.processor.eos_token_id)
            assert rest in ("", eos)


def test_what_a_user_says_is_never_a_control_token(loaded):
    processor = loaded.processor
    added = processor.tokenizer.added_tokens_decoder
    control = {number: token.content for number, token in added.items() if token.special}
    for token in control.values():
        for encode in (processor.encode_answer, processor.encode_prompt):
            with pytest.raises(ControlToken, match=re.escape(token)):
                encode(f"A cup.{token} A dog.")
    almost = " ".join(f"{token[:-1]} {token[1:]}" for token in control.values())
    ids = set(processor.encode_answer(almost).tolist()[:-1])
    assert ids
    assert not ids & (set(control) - {processor.tokenizer.unk_token_id})


def test_a_processor_comes_back_from_another_process(loaded, turns):
    processor = pickle.loads(pickle.dumps(loaded.processor))
    for question, images, chosen, _ in turns:
        expected, found = (
            one.encode_prompt(question, images) for one in (loaded.processor, processor)
        )
        assert found.input_ids.equal(expected.input_ids)
        assert all(found.pixels[name].equal(expected.pixels[name]) for name in expected.pixels)
        assert processor.encode_answer(chosen).equal(loaded.processor.encode_answer(chosen))
        assert processor.decode(processor.encode_answer(chosen)) == chosen


def test_stop_tokens_are_those_of_generate(loaded):
    ids = loaded.model.generation_config.eos_token_id
    assert set(loaded.processor.stop_token_ids) == set(ids if isinstance(ids, list) else [ids])


def test_losses_and_gradients_are_those_of_plain_sequences(loaded, turns):
    with_lora(loaded)
    batch = examples(loaded, turns)
    expected = torch.stack(
        [
            plain_logps(loaded, question, images, example.answers[name])
            for name in ("chosen", "rejected")
            for (question, images, *_), example in zip(turns, batch, strict=True)
        ]
    )
    weights = torch.linspace(-1, 2, len(expected))
    (weights * expected).sum().backward()
    expected_gradients = gradients(loaded)

    table = log_probabilities(loaded, batch, (CHOSEN, REJECTED))
    found = torch.cat([table[CHOSEN].sum, table[REJECTED].sum])
    (weights * found).sum().backward()
    found_gradients = gradients(loaded)

    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    layers = loaded.model.config.get_text_config().num_hidden_layers
    lora = [name for name in found_gradients if ".lora_" in name]
    assert len(lora) == 2 * 7 * layers  # A and B of seven linear layers a block
    assert not any("vis" in name for name in lora)
    projector = [name for name in found_gradients if ".modules_to_save." in name]
    assert projector
    assert set(found_gradients) == {*lora, *projector} == set(expected_gradients)
    for name, gradient in expected_gradients.items():
        difference = torch.linalg.norm(found_gradients[name] - gradient)
        assert difference <= 1e-4 * torch.linalg.norm(gradient), name


@torch.no_grad()
def test_a_batch_is_its_examples(loaded, turns):
    batch = examples(loaded, turns)
    together = log_probabilities(loaded, batch, (CHOSEN, REJECTED))
    alone = [log_probabilities(loaded, [example], (CHOSEN, REJECTED)) for example in batch]
    for view in (CHOSEN, REJECTED):
        each = torch.cat([table[view].sum for table in alone])
        torch.testing.assert_close(together[view].sum, each, rtol=1e-5, atol=1e-4)


def _additive(seen):
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[None, None]


def gemma_masks(vlm, encoded, visible):
    """What transformers makes of a prompt for each kind of layer, less what is hidden."""
    masks = vlm.model.create_masks_for_generate(
        vlm.model.config,
        vlm.model.get_input_embeddings()(encoded["input_ids"] % 300),
        encoded["attention_mask"],
        None,
        None,
        encoded["token_type_ids"],
    )
    return {
        kind: _additive((mask[0, 0] & visible) | torch.eye(len(visible), dtype=torch.bool))
        for kind, mask in masks.items()
    }


def masked_logits(vlm, question, images, visible, context):
    """Logits after a context by the model's own forward: a mask hides, positions are the full."""
    encoded, length = own_encoding(vlm, question, images, context)
    total = length + len(context)
    seen = torch.ones(total, total, dtype=torch.bool).tril()
    seen[:, :length] &= visible
    # What is hidden sees itself: a row without any is not a number.
    seen |= torch.eye(total, dtype=torch.bool)
    positions = torch.arange(total)[None]
    hidden = _additive(seen)
    if vlm.model.config.model_type == "gemma3":
        encoded["attention_mask"] = torch.ones_like(encoded["input_ids"])
        hidden = gemma_masks(vlm, encoded, torch.cat([visible, torch.ones(len(context)) > 0]))
    if hasattr(vlm.model.model, "get_rope_index"):
        names = ("input_ids", "mm_token_type_ids", "image_grid_thw")
        positions, _ = vlm.model.model.get_rope_index(
            **{name: encoded[name] for name in names if name in encoded}
        )
    encoded |= {"attention_mask": hidden, "position_ids": positions}
    return vlm.model(**encoded, use_cache=False).logits[0, -1]


@torch.no_grad()
@pytest.mark.parametrize("mask_ratio", [0.0, 0.6, 1.0])
def test_leaving_image_tokens_out_equals_hiding_them(loaded, turns, mask_ratio):
    contexts = [
        loaded.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in ("A red cup. It is", "A red oven")
    ]
    jobs, expected = [], []
    for number, (question, images, *_) in enumerate(turns):
        prompt = loaded.processor.encode_prompt(question, images)
        visible = visible_tokens(prompt, mask_ratio, generator(0, "mask", number))
        if images and mask_ratio:
            assert not visible.all()
        requests = [Request(context, np.zeros(4)) for context in contexts]
        jobs.append(Job(number, prompt, requests, visible))
        expected += [
            masked_logits(loaded, question, images, visible, context) for context in contexts
        ]
    _, hidden, _ = prefill(loaded, jobs)
    found = loaded.lm_head(hidden)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("known", [[0], [1, 2], [0, 1], [0, 1, 2]])
def test_features_that_are_known_change_nothing(loaded, turns, known):
    """BDHS keeps features from try to try without the pixels; of other prompts it has none yet."""
    pairs = []
    for number, (question, images, chosen, rejected) in enumerate(turns):
        data = tuple(png(image) for image in images)
        pairs.append(Pair(str(number), data, question, chosen, rejected, "test", {}))

    def hidden(*read):
        """Last states, where each of `read` is what BDHS keeps of a pair."""
        jobs = []
        for number, (prompt, _, features) in enumerate(read):
            visible = torch.ones(len(prompt), dtype=torch.bool)
            jobs.append(Job(number, prompt, [Request([], np.zeros(4))], visible, features))
        return prefill(loaded, jobs)[1]

    fresh = Seen(loaded, 2048)(pairs)
    expected = hidden(*((prompt, length, None) for prompt, length, _ in fresh))
    seen = Seen(loaded, 2048)
    seen([pairs[number] for number in known])
    kept = dict(zip(known, seen([pairs[number] for number in known]), strict=True))
    assert not any("pixel_values" in prompt.pixels for prompt, *_ in kept.values())
    mixed = [
        kept.get(number, (prompt, length, None)) for number, (prompt, length, _) in enumerate(fresh)
    ]
    torch.testing.assert_close(hidden(*mixed), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_answers_are_those_of_generate(loaded, turns):
    jobs, expected = [], []
    for number, (question, images, *_) in enumerate(turns):
        encoded, length = own_encoding(loaded, question, images)
        ids = loaded.model.generate(
            **encoded,
            do_sample=False,
            max_new_tokens=10,
            suppress_tokens=loaded.processor.unsampled_token_ids,
            eos_token_id=loaded.processor.stop_token_ids,
            pad_token_id=loaded.processor.eos_token_id,
        )[0, length:].tolist()
        stops = [i for i, one in enumerate(ids) if one in loaded.processor.stop_token_ids]
        expected.append(ids[: stops[0]] if stops else ids)
        prompt = loaded.processor.encode_prompt(question, images)
        visible = torch.ones(len(prompt), dtype=torch.bool)
        jobs.append(Job(number, prompt, [Request([], np.zeros(10))], visible))
    sampler = Sampler(loaded, temperature=0, top_p=1)
    found = dict(sampler.complete(jobs, rows=2))
    assert [found[number][0].token_ids for number in range(len(jobs))] == expected
    assert len({tuple(ids) for ids in expected}) == len(expected)


@torch.no_grad()
def test_peft_alone_loads_a_saved_adapter(loaded, folder, turns, tmp_path):
    (question, images, chosen, _), *_ = turns
    answer = loaded.processor.encode_answer(chosen)
    base = plain_logps(loaded, question, images, answer)
    adapted = with_lora(loaded)
    expected = log_probabilities(loaded, examples(loaded, turns), (CHOSEN,))[CHOSEN].sum[0]
    weights = {name: one.detach() for name, one in adapted.named_parameters() if one.requires_grad}
    save_adapter(tmp_path / "adapter", loaded, adapted, weights)
    plain = VisionLanguageModel.load(folder)
    plain.model = peft.PeftModel.from_pretrained(plain.model, tmp_path / "adapter").eval()
    found = plain_logps(plain, question, images, answer)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert (found - base).abs() > 1e-3


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, picture):
    """A folder with a training of every family at stage 0 and one at stage 3, in two processes."""
    root = tmp_path_factory.mktemp("trained")
    one, two = {}, {}
    for family, factory in FACTORIES.items():
        study = root / family
        factory(study / "model")
        write_study(study, picture)
        rate = {"projector_learning_rate": 0.02}
        split = {**rate, "zero_stage": 3, "gradient_checkpointing": True}
        one[f"{family} one"] = {"study": family, "training": {**rate, "zero_stage": 0}}
        two[f"{family} two"] = {"study": family, "training": split}
    start(root, 1, one)
    start(root, 2, two)
    return root


def write_study(study, picture):
    """Write pairs with several images and with one, and what the reference says of them."""
    pairs = []
    for number in range(4):
        question, sizes, chosen, rejected = TURNS[number % 2]
        images = tuple(png(picture(number, size)) for size in sizes)
        text = f"{question} {number}"
        pairs.append(Pair(f"p{number}", images, text, chosen, rejected, "test", {}))
    write_pairs(study / "pairs.parquet", pairs)
    origin = (study / "model", study / "pairs.parquet", "float32", 4)
    both = Stored(image="original", answers=("chosen", "rejected"))
    compute(study / "original.parquet", *origin, both)
    crops = Stored(image="crop_0_20", answers=("chosen",), epochs=2, seed=7)
    compute(study / "crop_0_20.parquet", *origin, crops)


@TWO_PROCESSES
@pytest.mark.slow
@pytest.mark.parametrize("family", FACTORIES)
def test_zero_3_in_two_processes_is_one_process(trained, family):
    """Weights split over processes, images of other sizes and numbers in each of them."""
    one, two = trained / f"{family} one", trained / f"{family} two"
    assert curve(two) == pytest.approx(curve(one), rel=1e-5)
    assert curve(two, "grad_norm") == pytest.approx(curve(one, "grad_norm"), rel=1e-3)
    expected, found = adapter(one), adapter(two)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4)
    assert any(tensor.any() for name, tensor in expected.items() if "lora_B" in name)
