"""What only some families have: a space before the answer, two-way images, windows, processors."""

import shutil

import numpy as np
import pytest
import torch
from family_models_b import FACTORIES
from test_families import (
    TURNS,
    _additive,
    masked_logits,
    own_encoding,
    plain_logps,
)
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, SmolVLMProcessor
from transformers.models.smolvlm import processing_smolvlm

from mmpref.errors import InputError
from mmpref.logprobs.forward import Example, log_probabilities
from mmpref.logprobs.views import CHOSEN, REJECTED
from mmpref.models import VisionLanguageModel
from mmpref.models.families.smolvlm import SmolVLM
from mmpref.randomness import generator
from mmpref.sampling.bdhs import visible_tokens
from mmpref.sampling.decoding import Job, Request, Sampler
from mmpref.sampling.splitting import split

PROJECTORS = {
    "idefics3": ["connector"],
    "smolvlm": ["connector"],
    "internvl": ["multi_modal_projector"],
    "gemma3": ["multi_modal_projector"],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for name, factory in FACTORIES.items():
        made[name] = tmp_path_factory.mktemp(name)
        factory(made[name])
    return made


@pytest.fixture(params=FACTORIES)
def loaded(request, folders):
    return VisionLanguageModel.load(folders[request.param])


@pytest.fixture
def turns(picture):
    return [
        (question, [picture(10 * i + k, size) for k, size in enumerate(sizes)], chosen, rejected)
        for i, (question, sizes, chosen, rejected) in enumerate(TURNS)
    ]


def test_what_the_projector_is(loaded):
    names = loaded.family.projectors(loaded.model)
    assert names == PROJECTORS[loaded.model.config.model_type]


@torch.no_grad()
def test_an_answer_of_one_token(loaded, turns):
    """The shortest branch there is."""
    question, images, *_ = turns[0]
    prompt = loaded.processor.encode_prompt(question, images)
    one = loaded.processor.encode_answer("A cup")[:1]
    short = torch.cat([one, torch.tensor([loaded.processor.eos_token_id])])
    answers = {"chosen": short, "rejected": short[1:]}
    found = log_probabilities(
        loaded, [Example("0", {"original": prompt}, answers)], (CHOSEN, REJECTED)
    )
    for view in (CHOSEN, REJECTED):
        expected = plain_logps(loaded, question, images, answers[view.answer])
        torch.testing.assert_close(found[view].sum[0], expected, rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_answers_go_on_from_what_is_visible(loaded, turns):
    """Greedy, token by token, by a model that is shown the whole behind a mask."""
    context = loaded.processor.encode_answer("A")[:-1].tolist()
    # After a short question, Gemma's window has images in it.
    asked = [*((question, images) for question, images, *_ in turns), ("?", turns[1][1])]
    jobs, expected = [], []
    for number, (question, images) in enumerate(asked):
        prompt = loaded.processor.encode_prompt(question, images)
        visible = visible_tokens(prompt, 0.6, generator(0, "mask", number))
        jobs.append(Job(number, prompt, [Request(context, np.zeros(8))], visible))
        logits: list[torch.Tensor] = []
        made: list[int] = []
        while len(made) < 8 and not set(made) & set(loaded.processor.stop_token_ids):
            logits.append(masked_logits(loaded, question, images, visible, context + made))
            made.append(int(without(logits[-1], loaded.processor.unsampled_token_ids).argmax()))
        expected.append(([i for i in made if i not in loaded.processor.stop_token_ids], logits))
    sampler, said = Sampler(loaded, temperature=0, top_p=1), []
    together = dict(sampler.complete(jobs))
    loaded.lm_head.register_forward_hook(lambda module, inputs, output: said.append(output[0]))
    for job, (token_ids, logits) in zip(jobs, expected, strict=True):
        said.clear()
        ((_, (alone,)),) = sampler.complete([job])
        torch.testing.assert_close(torch.stack(said), torch.stack(logits), rtol=1e-4, atol=1e-4)
        assert alone.token_ids == together[job.key][0].token_ids == token_ids


def without(logits, token_ids):
    return logits.index_fill(0, torch.tensor(token_ids), -torch.inf)


def test_a_cut_answer_begins_as_the_whole(loaded):
    answer = "A cup stands here. The oven is on."
    whole = loaded.processor.encode_answer(answer).tolist()
    openings = split(loaded.processor.tokenizer, answer, generator(0, "split"))
    assert [opening.context for opening in openings] == [
        whole[: len(opening.context)] for opening in openings
    ]
    assert len(openings) == 2
    for opening in openings:
        assert opening.text
        assert loaded.processor.decode(opening.context).endswith(opening.text)
    assert loaded.processor.decode(whole) == answer


class SmolVLMImagesProcessor(SmolVLMProcessor):
    def __init__(self, image_processor, tokenizer, **options):
        super().__init__(image_processor, tokenizer, None, **options)


def test_smolvlm_is_encoded_as_by_its_own_processor(folders, turns, monkeypatch):
    """The one that needs packages for videos; with images it does not come to use them."""
    monkeypatch.setattr(processing_smolvlm, "num2words", str)
    folder = folders["smolvlm"]
    own = SmolVLMImagesProcessor(
        AutoImageProcessor.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
        image_seq_len=4,
    )
    vlm = VisionLanguageModel.load(folder)
    for question, images, *_ in turns:
        colon = ":" if images else ": "
        text = f"<|im_start|>User{colon}{'<image>' * len(images)}{question}"
        expected = own(
            text=text + "<end_of_utterance>\nAssistant:",
            images=images or None,
            return_tensors="pt",
        )
        prompt = vlm.processor.encode_prompt(question, images)
        assert prompt.input_ids.equal(expected["input_ids"][0])
        for name, tensor in prompt.pixels.items():
            assert tensor.equal(expected[name])


def test_idefics3_tells_the_tiles_of_an_image(folders, turns):
    vlm = VisionLanguageModel.load(folders["idefics3"])
    question, images, *_ = turns[1]
    prompt = vlm.processor.encode_prompt(question, images)
    words = vlm.processor.tokenizer.convert_ids_to_tokens(prompt.input_ids)
    # 70 x 24 pixels at a longest edge of 32 are two tiles side by side.
    places = [word for word in words if word.startswith(("<row", "<global"))]
    assert places == ["<row_1_col_1>", "<row_1_col_2>", "<global-img>"]
    assert prompt.is_image.sum() == 3 * 4
    assert prompt.pixels["pixel_values"].shape == (1, 3, 3, 16, 16)
    assert prompt.pixels["pixel_attention_mask"].shape == (1, 3, 16, 16)


def test_a_processor_that_needs_a_package_names_it(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(SmolVLM, "processor_class", AutoProcessor)
    folder = shutil.copytree(folders["smolvlm"], tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"needs a package .*(num2words|[Tt]orchvision)"):
        VisionLanguageModel.load(folder)


def test_gemma_refuses_what_its_processor_takes_for_an_image(folders, turns):
    vlm = VisionLanguageModel.load(folders["gemma3"])
    _, images, *_ = turns[1]
    for token in ("<start_of_image>", "<image_soft_token>"):
        with pytest.raises(InputError, match=f"holds a control token of the model .{token}."):
            vlm.processor.encode_prompt(f"What is {token}?", images)


@torch.no_grad()
@pytest.mark.parametrize("changed", ["sliding_window", "images_see_themselves"])
def test_gemma_depends_on_who_sees_whom(folders, turns, changed, monkeypatch):
    """What the other tests compare would differ if windows or two-way images were left out."""
    vlm = VisionLanguageModel.load(folders["gemma3"])
    question, images, *_ = turns[0]
    encoded, length = own_encoding(vlm, question, images)
    expected = vlm.model(**encoded).logits[0, -1]
    if changed == "sliding_window":
        mask = torch.ones(length, length, dtype=torch.bool).tril()
        blocks = encoded["token_type_ids"][0].bool()
        starts = (blocks & ~blocks.roll(1)).cumsum(0) * blocks
        mask |= (starts[:, None] == starts) & (starts > 0)
        encoded["attention_mask"] = dict.fromkeys(
            ("full_attention", "sliding_attention"), _additive(mask)
        )
    else:
        encoded["token_type_ids"] = torch.zeros_like(encoded["token_type_ids"])
    assert (vlm.model(**encoded).logits[0, -1] - expected).abs().max() > 0.01
