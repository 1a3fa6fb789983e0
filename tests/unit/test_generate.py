import io
import json

import torch

from mmpref.records.items import Item
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
