"""The toy world: scenes, pictures, language, tokenizer, model, pretraining, benchmark items."""

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl.data_utils import apply_chat_template

from mmpref.records.images import open_image
from mmpref.records.items import load_image, read_items, write_items
from mmpref.records.pairs import Pairs, write_pairs
from mmpref.toyworld import language, render
from mmpref.toyworld.benchmark import caption_items, preference_pairs, yesno_items
from mmpref.toyworld.model import IMAGE_TOKENS, PATCH_SIZE, build_model, build_processor
from mmpref.toyworld.pretrain import Texts, patch_labels, pretrain, rows_of
from mmpref.toyworld.scenes import (
    IMAGE_SIZE,
    LOOKS,
    OBJECTS,
    PRIORS,
    SPLITS,
    PlacedObject,
    Scene,
    scene,
)

TINY: dict[str, Any] = {"scenes": 16, "vision_steps": 3, "steps": 5, "bias": 0.6}


@pytest.fixture(scope="module")
def processor():
    return build_processor()


def mentioned(text):
    """The objects a text mentions, found by the words alone."""
    return Counter(name for name in OBJECTS for _ in re.findall(rf"\b{name}\b", text.lower()))


def prompt_of(processor, question, images=1):
    content = [{"type": "image"}] * images + [{"type": "text", "text": question}]
    messages = [{"role": "user", "content": content}]
    return processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


# ------------------------------------------------------------------------------- scenes


def test_scenes_are_deterministic_and_splits_share_none():
    content = {
        split: {(one.place, one.objects) for one in (scene(3, split, i) for i in range(100))}
        for split in SPLITS
    }
    assert content["test"] == {
        (one.place, one.objects) for one in (scene(3, "test", i) for i in range(100))
    }
    assert len(set().union(*content.values())) == 100 * len(SPLITS)
    with pytest.raises(ValueError, match="tset"):
        scene(3, "tset", 0)


def test_scenes_hold_three_to_five_different_objects_inside_the_image():
    for index in range(300):
        one = scene(0, "test", index)
        assert 3 <= len(one.names) <= 5
        assert len(set(one.names)) == len(one.names)
        assert not set(one.names) & set(one.likely)
        assert set(one.likely) <= set(PRIORS[one.place])
        for placed in one.objects:
            assert 0 <= placed.left <= placed.left + placed.width <= IMAGE_SIZE + 1e-9
            assert 0 <= placed.top <= placed.top + placed.height <= IMAGE_SIZE + 1e-9


def test_the_place_does_not_give_away_the_objects():
    kitchens = [one for one in (scene(0, "test", i) for i in range(1000)) if one.place == "kitchen"]
    share = Counter(name for one in kitchens for name in one.names)
    assert all(0.2 < share[name] / len(kitchens) < 0.8 for name in PRIORS["kitchen"])
    assert share["kite"] / len(kitchens) < 0.1


def test_pictures_show_the_objects_in_their_boxes():
    one = scene(0, "test", 0)
    full = np.asarray(render.image(one, 0), dtype=int)
    assert full.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
    for placed in one.objects:
        rest = tuple(other for other in one.objects if other is not placed)
        without = np.asarray(render.image(Scene(one.id, one.place, rest), 0), dtype=int)
        changed = np.argwhere(np.abs(full - without).max(axis=-1) > 0)
        assert len(changed) > 30
        top, left = changed.min(axis=0)
        bottom, right = changed.max(axis=0)
        assert left >= placed.left - 2
        assert right <= placed.left + placed.width + 2
        assert top >= placed.top - 2
        assert bottom <= placed.top + placed.height + 2


def test_every_object_can_be_drawn_in_every_colour():
    assert {name for prior in PRIORS.values() for name in prior} == set(OBJECTS)
    for name in OBJECTS:
        colours = len(LOOKS[name]["colours"])
        pictures = {
            render.png(Scene("x", "park", (PlacedObject(name, 20, 20, 30, 30, c, False),)), 0)
            for c in range(colours)
        }
        assert len(pictures) == colours


# ------------------------------------------------------------------------------- language


def test_true_captions_mention_exactly_the_scene_s_objects():
    rng = np.random.default_rng(0)
    for index in range(200):
        one = scene(0, "pretrain", index)
        caption = language.true_caption(one, rng)
        text = str(caption)
        assert mentioned(text) == Counter(one.names)
        assert one.place in text
        assert Counter(caption.names) == Counter(one.names)


def test_positions_in_true_captions_are_true():
    rng = np.random.default_rng(0)
    checked = 0
    for index in range(200):
        one = scene(0, "pretrain", index)
        text = str(language.true_caption(one, rng)).lower()
        for placed in one.objects:
            said = re.search(
                rf"\b{placed.name} (?:is )?(on the left|in the middle|on the right)", text
            )
            if said:
                assert said[1].split()[-1] == placed.position
                checked += 1
    assert checked > 50


def test_extra_objects_are_mentioned_once_besides_what_is_there():
    rng = np.random.default_rng(0)
    last: Counter[str] = Counter()
    for index in range(300):
        one = scene(0, "pretrain", index)
        extra = language.likely_absent(one, rng)
        assert extra in one.likely
        corrupted = language.caption(one, [extra], rng)
        assert mentioned(str(corrupted)) == Counter([*one.names, extra])
        last[corrupted.names[-1] == extra] += 1
    assert last[False] > last[True] > 0


def test_captions_begin_with_what_one_expects():
    rng = np.random.default_rng(0)
    ranks = []
    for index in range(300):
        one = scene(0, "pretrain", index)
        expected = [*PRIORS[one.place], *OBJECTS]
        names = language.true_caption(one, rng).names
        ranks.append(expected.index(names[0]) < expected.index(names[-1]))
    assert 0.8 < np.mean(ranks) < 1


@pytest.mark.parametrize("bias", [0.0, 0.6, 1.0])
def test_machine_captions_name_absent_expected_objects_as_often_as_asked(bias):
    rng = np.random.default_rng(0)
    tempting = named = 0
    for index in range(400):
        one = scene(0, "pretrain", index)
        likeliest = set(list(PRIORS[one.place])[: language.EXPECTED]) - set(one.names)
        extra = Counter(language.machine_caption(one, bias, rng).names) - Counter(one.names)
        assert set(extra) <= likeliest
        tempting, named = tempting + len(likeliest), named + len(list(extra.elements()))
    assert named / tempting == pytest.approx(bias, abs=0.06)


# ------------------------------------------------------------------------------- tokenizer


def test_texts_survive_the_tokenizer(processor):
    tokenizer = processor.tokenizer
    for text in [*language.every_text(), "A cup.\nNo, a dining table is on the left!  Yes"]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id in tokenizer("zebra")["input_ids"]
    assert {"A", " a"} <= set(tokenizer.get_vocab())


def test_the_template_composes_as_trl_expects(processor):
    example: dict[str, Any] = {
        "prompt": [
            {
                "role": "user",
                "content": [{"type": "image"}, {"type": "text", "text": "Describe the image."}],
            }
        ],
        "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "This is a park."}]}],
        "rejected": [{"role": "assistant", "content": "This is a street."}],
    }
    rendered = apply_chat_template(example, processor)
    assert rendered["prompt"] == "<bos>USER: <image>\nDescribe the image.\nASSISTANT:\n"
    assert rendered["chosen"] == "This is a park.<eos>"
    assert rendered["rejected"] == "This is a street.<eos>"

    def ids(text):
        return processor.tokenizer(text, add_special_tokens=False)["input_ids"]

    assert ids(rendered["prompt"] + rendered["chosen"]) == [
        *ids(rendered["prompt"]),
        *ids("This is a park."),
        processor.tokenizer.eos_token_id,
    ]


def test_the_processor_keeps_pictures_as_they_are_and_expands_image_tokens(processor):
    pictures = [render.image(scene(0, "test", index), 0) for index in range(2)]
    two = processor(
        images=[pictures],
        text=[prompt_of(processor, "Is there a cup in the image?", images=2)],
        return_tensors="pt",
        add_special_tokens=False,
    )
    assert (two["input_ids"] == processor.image_token_id).sum() == 2 * IMAGE_TOKENS
    back = (two["pixel_values"][1].permute(1, 2, 0) * 0.25 + 0.5) * 255
    assert np.abs(back.numpy() - np.asarray(pictures[1])).max() < 0.01
    large = processor.image_processor(images=Image.new("RGB", (200, 90)), return_tensors="pt")
    assert large["pixel_values"].shape == (1, 3, IMAGE_SIZE, IMAGE_SIZE)


# ------------------------------------------------------------------------------- model


def test_patch_labels_say_where_an_object_is():
    box = PlacedObject("cup", PATCH_SIZE, 2 * PATCH_SIZE, 2 * PATCH_SIZE, PATCH_SIZE, 0, False)
    labels = patch_labels(Scene("x", "park", (box,)))
    across = IMAGE_SIZE // PATCH_SIZE
    cup = labels[:, OBJECTS.index("cup")].reshape(across, across)
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-6)
    assert (cup > 0).sum() == 2
    assert (cup[2, 1:3] > 0.7).all()


def test_rows_give_the_probabilities_of_the_plain_prompts(processor):
    """One row with a shared image says of every text what a run of its own says."""
    model = build_model(processor, 0, width=32, layers=2, vision_width=24, vision_layers=1)
    one = scene(0, "pretrain", 0)
    picture = render.image(one, 0)
    texts = Texts(processor, 0, bias=0.6)
    asked, answer = language.yesno_question("cup"), language.yesno_answer("cup", True)
    caption = str(language.true_caption(one, np.random.default_rng(0)))
    described = language.CAPTION_PROMPTS[0]
    row = [
        texts.text(described, caption),
        texts.text(described, caption, blind=True),
        texts.question("cup", 0, True, whole=True),
    ]
    rows = rows_of([row], texts, processor.tokenizer.pad_token_id)

    with torch.no_grad():
        pixels = processor.image_processor(images=picture, return_tensors="pt")["pixel_values"]
        image = torch.cat(list(model.get_image_features(pixels).pooler_output))
        embedded = model.get_input_embeddings()(rows.ids)
        spots = (rows.ids == processor.image_token_id)[..., None]
        states = model.model.language_model(
            inputs_embeds=embedded.masked_scatter(spots, image),
            attention_mask=rows.attention,
            position_ids=rows.positions,
        ).last_hidden_state
        packed = model.lm_head(states[0, rows.predicting]).log_softmax(-1)
        packed = packed.gather(1, rows.targets[:, None])[:, 0]

        plain = []
        for question, said, images in [
            (described, caption, 1),
            (described, caption, 0),
            (asked, answer, 1),
        ]:
            prompt = prompt_of(processor, question, images)
            inputs = processor(
                images=[[picture]] if images else None,
                text=[f"{prompt}{said}<eos>"],
                return_tensors="pt",
                add_special_tokens=False,
            )
            answered = processor.tokenizer(said + "<eos>", add_special_tokens=False)["input_ids"]
            logp = model(**inputs).logits[0].log_softmax(-1)
            before = logp[-len(answered) - 1 : -1]
            plain.append(before.gather(1, torch.tensor(answered)[:, None])[:, 0])
    torch.testing.assert_close(packed, torch.cat(plain), rtol=1e-4, atol=1e-4)


def test_pretraining_learns_is_deterministic_and_saves_what_the_auto_classes_load(tmp_path):
    longer: dict[str, Any] = {**TINY, "steps": 24}
    losses = pretrain(tmp_path / "one", seed=1, **longer)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])
    assert pretrain(tmp_path / "two", seed=1, **longer) == losses
    weights = "model.safetensors"
    assert (tmp_path / "one" / weights).read_bytes() == (tmp_path / "two" / weights).read_bytes()
    assert pretrain(tmp_path / "three", seed=2, **TINY) != losses[: TINY["steps"]]

    model: Any = AutoModelForImageTextToText.from_pretrained(tmp_path / "one")
    loaded = AutoProcessor.from_pretrained(tmp_path / "one")
    assert 5e5 < model.num_parameters() < 2e6
    inputs = loaded(
        images=[[render.image(scene(0, "test", 0), 0)]],
        text=[prompt_of(loaded, "Describe the image.")],
        return_tensors="pt",
        add_special_tokens=False,
    )
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == IMAGE_TOKENS
    answer = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert answer.shape[1] > inputs["input_ids"].shape[1]


# ------------------------------------------------------------------------------- benchmark


def test_caption_items_say_what_is_there(tmp_path):
    items = caption_items(0, "test", 20)
    for index, item in enumerate(items):
        one = scene(0, "test", index)
        assert item.truth["objects"] == list(one.names)
        assert item.truth["vocabulary"] == list(OBJECTS)
        assert open_image(load_image(item.images[0])) == render.image(one, 0)
    write_items(tmp_path / "items.parquet", items)
    assert read_items(tmp_path / "items.parquet") == items


def test_yesno_items_are_balanced_and_labelled_rightly(tmp_path):
    items = yesno_items(0, "test", 60)
    counts = Counter((item.truth["setting"], item.truth["label"]) for item in items)
    assert set(counts.values()) == {30}
    assert len(counts) == 6
    for item in items:
        one = scene(0, "test", int(item.id.split("-")[1]))
        name, setting = item.truth["object"], item.truth["setting"]
        assert (name in one.names) == (item.truth["label"] == "yes")
        assert item.prompt == language.yesno_question(name)
        if item.truth["label"] == "no" and setting == "adversarial":
            assert name in one.likely
    write_items(tmp_path / "items.parquet", items)
    assert read_items(tmp_path / "items.parquet") == items


def test_preference_pairs_differ_by_one_hallucination(tmp_path):
    pairs = preference_pairs(0, 60, yesno_share=0.3)
    yesno = [pair for pair in pairs if pair.chosen.startswith(("Yes", "No"))]
    assert 8 <= len(yesno) <= 28
    for pair in pairs:
        chosen, rejected = mentioned(pair.chosen), mentioned(pair.rejected)
        if pair in yesno:
            (name,) = chosen
            assert pair.chosen.startswith("Yes") == (name in pair.meta["objects"])
            assert {pair.chosen, pair.rejected} == {
                language.yesno_answer(name, True),
                language.yesno_answer(name, False),
            }
        else:
            assert chosen == Counter(pair.meta["objects"])
            (extra,) = (rejected - chosen).elements()
            assert extra in pair.meta["likely"]
            assert not chosen - rejected
    write_pairs(tmp_path / "pairs.parquet", pairs)
    assert list(Pairs(tmp_path / "pairs.parquet")) == pairs
    assert preference_pairs(0, 60, yesno_share=0.3) == pairs
    assert preference_pairs(0, 5, yesno_share=0.0) == preference_pairs(0, 9, yesno_share=0.0)[:5]
