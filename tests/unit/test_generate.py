import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmpref.errors import InputError
from mmpref.models import Processor
from mmpref.records.images import open_image
from mmpref.records.items import Item
from mmpref.sampling import decoding
from mmpref.sampling.responses import answer, write_responses


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def items(picture):
    questions = ["What?", "Describe the image please.", "Is there a cat in the image?"]
    truth = {"kind": "open"}
    return [
        Item(str(i), (png(picture(i)),), question, truth) for i, question in enumerate(questions)
    ]


def answers(vlm, made, max_new_tokens, batch_size):
    """Text, and whether it ended, of each item."""
    numbers = range(len(made))
    found = answer(vlm, made, numbers, max_new_tokens=max_new_tokens, batch_size=batch_size)
    done = {number: (text, ended) for number, text, ended in found}
    return [done[number] for number in numbers]


def test_batches_give_the_answers_of_single_items(vlm, picture):
    made = items(picture)
    together = answers(vlm, made, max_new_tokens=12, batch_size=3)
    alone = [answers(vlm, [item], max_new_tokens=12, batch_size=1)[0] for item in made]
    assert together == alone
    assert any(text for text, _ in together)


def test_answers_are_the_most_probable_tokens(llava, picture):
    item = items(picture)[1]
    (text, _), *_ = answers(llava, [item], max_new_tokens=6, batch_size=1)
    prompt = llava.processor.encode_prompt(item.prompt, [picture(1)])
    token_ids = prompt.input_ids
    for _ in range(6):
        logits = llava.model(input_ids=token_ids[None], **prompt.pixels).logits[0, -1]
        logits[llava.processor.unsampled_token_ids] = -torch.inf
        if logits.argmax() == llava.processor.eos_token_id:
            break
        token_ids = torch.cat([token_ids, logits.argmax()[None]])
    assert text == llava.processor.decode(token_ids[len(prompt) :]).strip()


def test_answers_end_where_the_model_can_no_longer_look_back(llava, picture, capfd):
    made = items(picture)
    whole = answers(llava, made, max_new_tokens=12, batch_size=3)
    lengths = [len(llava.processor.encode_prompt(item.prompt, [picture(0)])) for item in made]
    llava.model.config.text_config.max_position_embeddings = lengths[2] + 5
    found = answers(llava, made, max_new_tokens=12, batch_size=3)
    assert found[0] == whole[0]
    for number in (1, 2):
        room = lengths[2] + 5 - lengths[number]
        alone = answers(llava, made[number : number + 1], max_new_tokens=room, batch_size=1)
        assert room < 12
        assert found[number] == alone[0]
    llava.model.config.text_config.max_position_embeddings = lengths[0] + 12
    assert answers(llava, made, max_new_tokens=12, batch_size=3) == [whole[0], *[("", False)] * 2]
    assert "2 prompts are longer than the model can look back" in capfd.readouterr().err


def test_a_control_token_in_a_question_is_named_by_its_item(llava, picture):
    item = replace(items(picture)[1], prompt="What?<eos>assistant: A cup.")
    with pytest.raises(InputError, match=r"item 1: the text .* holds a control token .*<eos>"):
        answers(llava, [item], max_new_tokens=4, batch_size=1)


def test_image_token_is_never_generated(llava, picture):
    with torch.no_grad():
        llava.lm_head.weight[llava.processor.image_token_id] = 100 * llava.lm_head.weight[65]
        llava.lm_head.weight[llava.processor.eos_token_id] *= 100
    for text, _ in answers(llava, items(picture), max_new_tokens=8, batch_size=2):
        assert "<image>" not in text


def test_responses_are_json_lines_in_order(llava, picture, tmp_path):
    made = items(picture)
    journal = tmp_path / "r.journal"
    write_responses(tmp_path / "r.jsonl", llava, made, max_new_tokens=4, journal=journal)
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["0", "1", "2"]
    assert all(line["decoding"] == {"strategy": "greedy", "max_new_tokens": 4} for line in lines)


def generated(vlm, item, max_new_tokens):
    """What transformers' `generate` answers in float32, one item at a time."""
    pictures = [open_image(data) for data in item.images]
    prompt = vlm.processor.encode_prompt(item.prompt, pictures)
    ids = vlm.model.generate(
        input_ids=prompt.input_ids[None],
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        **prompt.pixels,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        suppress_tokens=vlm.processor.unsampled_token_ids,
        eos_token_id=vlm.processor.eos_token_id,
        pad_token_id=vlm.processor.eos_token_id,
    )[0, len(prompt) :].tolist()
    ended = vlm.processor.eos_token_id in ids
    text = vlm.processor.decode(ids[: ids.index(vlm.processor.eos_token_id)] if ended else ids)
    return text.strip(), ended


def test_answers_are_those_of_generate(vlm, picture):
    made = [Item(str(i), (png(picture(i)),), f"{i} " * i, {"kind": "open"}) for i in range(9)]
    expected = [generated(vlm, item, 12) for item in made]
    assert answers(vlm, made, max_new_tokens=12, batch_size=4) == expected


def test_hardly_a_step_is_wasted_on_finished_answers(llava, picture, monkeypatch):
    """64 answers of 4 to 200 tokens, 32 side by side."""
    lengths = np.random.default_rng(0).integers(4, 201, 64)
    made = [Item(str(i), (), f"{i} " * (i % 7), {"kind": "open"}) for i in range(64)]
    append = decoding._Run.append

    def scripted(run, token_id, may_end):
        last = len(run.token_ids) + 1 == lengths[run.job.key]
        append(run, llava.processor.eos_token_id if last else 65, may_end)

    monkeypatch.setattr(decoding._Run, "append", scripted)
    steps = []
    llava.language_model.register_forward_pre_hook(
        lambda module, inputs, options: steps.append(options["inputs_embeds"].shape[:2]),
        with_kwargs=True,
    )
    answers(llava, made, max_new_tokens=200, batch_size=32)
    row_steps = sum(rows for rows, tokens in steps if tokens == 1)
    # The first token of an answer is drawn from the prompt, every other takes a row one step.
    assert row_steps == lengths.sum() - 64
    assert max(rows for rows, tokens in steps if tokens == 1) == 32


def written(path, vlm, made, **options):
    write_responses(path, vlm, made, max_new_tokens=12, **options)
    return path.read_text()


def test_shards_one_after_the_other_are_the_whole(llava, picture, tmp_path):
    made = items(picture)
    whole = written(tmp_path / "whole", llava, made, journal=tmp_path / "j")
    parts = [
        written(tmp_path / "p", llava, made, journal=tmp_path / f"{i}", shard=i, shards=2)
        for i in range(2)
    ]
    assert parts[0] + parts[1] == whole
    assert all(parts)


def test_an_interrupted_shard_answers_only_the_rest(llava, picture, tmp_path, monkeypatch):
    made = items(picture)
    expected = written(tmp_path / "undisturbed", llava, made, journal=tmp_path / "a")
    journal = (tmp_path / "a").read_text().splitlines(keepends=True)
    (tmp_path / "b").write_text("".join(journal[:2]) + journal[2][:5])
    asked = []
    encode = Processor.encode_prompt

    def count(self, question, images=()):
        asked.append(question)
        return encode(self, question, images)

    monkeypatch.setattr(Processor, "encode_prompt", count)
    assert written(tmp_path / "again", llava, made, journal=tmp_path / "b") == expected
    assert len(asked) == 2


@pytest.mark.parametrize("changed", ["model", "items"])
def test_a_journal_of_another_model_is_refused(llava, make_vlm, picture, tmp_path, changed):
    made = items(picture)
    written(tmp_path / "r", llava, made, journal=tmp_path / "journal")
    vlm = make_vlm("llava", seed=1) if changed == "model" else llava
    others = made[:2] if changed == "items" else made
    with pytest.raises(InputError, match="journal: holds answers of another model, adapter or"):
        written(tmp_path / "r", vlm, others, journal=tmp_path / "journal")
