from typing import Any

import numpy as np
import pytest
import torch

from mmpref.randomness import generator
from mmpref.sampling.bdhs import visible_tokens
from mmpref.sampling.decoding import Job, Request, Sampler, prefill

ANSWERS = [
    ["", "A red c", "A red cup. It is", "No red c"],  # the last is a branch of its own
    ["There is a dog", "There is a dog. Th"],
    ["Yes"],
]
SIZES = [(24, 18), (12, 40), (33, 16)]


def encoded(vlm, text):
    return vlm.processor.tokenizer(text, add_special_tokens=False)["input_ids"]


def batch(vlm, picture, mask_ratio=0.7):
    prompts = [
        vlm.processor.encode_prompt("What? " * (i + 1), [picture(i, SIZES[i])]) for i in range(3)
    ]
    visible = [
        visible_tokens(prompt, mask_ratio, generator(0, "mask", i))
        for i, prompt in enumerate(prompts)
    ]
    contexts = [[encoded(vlm, text) for text in texts] for texts in ANSWERS]
    return prompts, visible, contexts


def requests(contexts, tokens=12, begin=0):
    return [
        [
            Request(context, generator(0, "draw", i, j).random(tokens), begin)
            for j, context in enumerate(row)
        ]
        for i, row in enumerate(contexts)
    ]


def jobs_of(prompts, visible, wanted):
    return [
        Job(number, *job) for number, job in enumerate(zip(prompts, wanted, visible, strict=True))
    ]


def complete(sampler, prompts, visible, wanted, rows=None):
    done = dict(sampler.complete(jobs_of(prompts, visible, wanted), rows))
    assert len(done) == len(prompts)
    return [done[number] for number in range(len(prompts))]


def embedded(vlm, prompt, answer):
    is_image = torch.cat([prompt.is_image, torch.zeros_like(answer, dtype=torch.bool)])
    ids = torch.cat([prompt.input_ids, answer])
    return vlm.embed(ids, is_image, vlm.image_features([prompt])[0])[None]


@torch.no_grad()
def plain_logits(vlm, prompt, visible, context):
    """The full sequence; hidden image tokens are hidden by an explicit mask, positions count on."""
    answer = torch.tensor(context, dtype=torch.long)
    embeddings = embedded(vlm, prompt, answer)
    length = embeddings.shape[1]
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    seen[:, : len(prompt)] &= visible
    mask = torch.zeros(1, 1, length, length).masked_fill(~seen, torch.finfo(torch.float32).min)
    hidden = vlm.language_model(
        inputs_embeds=embeddings,
        attention_mask=mask,
        position_ids=torch.arange(length)[None],
        use_cache=False,
    ).last_hidden_state
    return vlm.lm_head(hidden[0, -1])


def plain_greedy(vlm, prompt, visible, context, tokens):
    made: list[Any] = []
    for _ in range(tokens):
        logits = plain_logits(vlm, prompt, visible, context + made)
        logits[vlm.processor.unsampled_token_ids] = -torch.inf
        token_id = int(logits.argmax())
        if token_id == vlm.processor.eos_token_id:
            break
        made.append(token_id)
    return made


@torch.no_grad()
def test_leaving_tokens_out_equals_masking_them(vlm, picture):
    prompts, visible, contexts = batch(vlm, picture)
    assert not any(mask.all() for mask in visible)
    _, hidden, _ = prefill(vlm, jobs_of(prompts, visible, requests(contexts)))
    logits = vlm.lm_head(hidden)
    expected = [
        plain_logits(vlm, prompt, mask, context)
        for prompt, mask, row in zip(prompts, visible, contexts, strict=True)
        for context in row
    ]
    torch.testing.assert_close(logits, torch.stack(expected), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_hidden_tokens_are_not_computed(llava, picture):
    prompts, _, contexts = batch(llava, picture)
    visible = [~prompt.is_image for prompt in prompts]
    cache, _, _ = prefill(llava, jobs_of(prompts, visible, requests(contexts)))
    branch = len("No red c")
    trunks = [
        int(mask.sum()) + max(map(len, row)) for mask, row in zip(visible, contexts, strict=True)
    ]
    assert cache.layers[0].keys.shape[2] == sum(trunks) + branch


def test_a_batch_is_read_once_and_then_only_new_tokens(llava, picture):
    lengths = []
    llava.language_model.register_forward_pre_hook(
        lambda module, inputs, options: lengths.append(tuple(options["inputs_embeds"].shape[:2])),
        with_kwargs=True,
    )
    prompts, visible, contexts = batch(llava, picture)
    with_bias(llava, [llava.processor.eos_token_id], -1000.0)
    complete(Sampler(llava, 1, 1), prompts, visible, requests(contexts, tokens=5, begin=None))
    assert lengths[0][0] == 1  # without padding, one after the other
    assert lengths[1:] == [(7, 1)] * 4


def test_greedy_completions_are_those_of_one_token_at_a_time(vlm, picture):
    prompts, visible, contexts = batch(vlm, picture)
    wanted = requests(contexts, begin=None)
    found = complete(Sampler(vlm, temperature=0, top_p=1), prompts, visible, wanted)
    for prompt, mask, row, completions in zip(prompts, visible, contexts, found, strict=True):
        for context, completion in zip(row, completions, strict=True):
            assert completion.token_ids == plain_greedy(vlm, prompt, mask, context, 12)


def test_greedy_completions_are_those_of_transformers_where_all_is_visible(vlm, picture):
    prompts, visible, contexts = batch(vlm, picture, mask_ratio=0)
    found = complete(
        Sampler(vlm, temperature=0, top_p=1), prompts, visible, requests(contexts, begin=None)
    )
    for prompt, row, completions in zip(prompts, contexts, found, strict=True):
        for context, completion in zip(row, completions, strict=True):
            answer = torch.tensor(context, dtype=torch.long)
            embeddings = embedded(vlm, prompt, answer)
            expected = vlm.model.generate(
                inputs_embeds=embeddings,
                attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long),
                do_sample=False,
                max_new_tokens=12,
                suppress_tokens=vlm.processor.unsampled_token_ids,
                pad_token_id=vlm.processor.tokenizer.pad_token_id,
            )[0].tolist()
            assert completion.token_ids == [i for i in expected if i != vlm.processor.eos_token_id]


def test_completions_do_not_depend_on_the_batch(vlm, picture):
    prompts, visible, contexts = batch(vlm, picture)
    wanted = requests(contexts, tokens=20)
    # Of different length, so that the batch shrinks on the way.
    wanted[0][1] = Request(wanted[0][1].context, wanted[0][1].uniforms[:3], 0)
    wanted[1] = [Request(request.context, request.uniforms[:7], 0) for request in wanted[1]]
    sampler = Sampler(vlm, temperature=1, top_p=0.9)
    together = complete(sampler, prompts, visible, wanted)
    for i, (row, completions) in enumerate(zip(wanted, together, strict=True)):
        for request, completion in zip(row, completions, strict=True):
            alone = complete(sampler, [prompts[i]], [visible[i]], [[request]])[0][0]
            assert alone == completion
    assert len({tuple(c.token_ids) for row in together for c in row}) == 7


def test_an_uncertain_model_does_not_repeat_itself(llava, picture):
    prompts, visible, contexts = batch(llava, picture)
    sampler = Sampler(llava, temperature=1, top_p=1)
    request = [
        [Request(contexts[0][1], generator("other", i).random(12), None) for i in range(5)],
        *requests(contexts)[1:],
    ]
    assert len({c.text for c in complete(sampler, prompts, visible, request)[0]}) == 5


def with_bias(vlm, token_ids, amount=1000.0):
    head = vlm.lm_head
    biased = torch.nn.Linear(head.in_features, head.out_features)
    with torch.no_grad():
        biased.weight.copy_(head.weight)
        biased.bias.zero_()
        biased.bias[token_ids] = amount
    vlm.model.set_output_embeddings(biased)
    return vlm


@pytest.mark.parametrize("temperature", [0, 1])
def test_special_tokens_are_never_sampled(llava, picture, temperature):
    with_bias(llava, llava.processor.unsampled_token_ids)
    prompts, visible, contexts = batch(llava, picture)
    _, hidden, _ = prefill(llava, jobs_of(prompts, visible, requests(contexts)))
    assert llava.processor.image_token_id in llava.lm_head(hidden).topk(3).indices[0]
    found = complete(Sampler(llava, temperature, top_p=0.9), prompts, visible, requests(contexts))
    for row in found:
        for completion in row:
            assert completion.token_ids
            assert not set(completion.token_ids) & set(llava.processor.unsampled_token_ids)


def test_end_of_sequence_ends_a_completion(llava, picture):
    with_bias(llava, [llava.processor.eos_token_id])
    prompts, visible, contexts = batch(llava, picture)
    found = complete(Sampler(llava, 1, 1), prompts, visible, requests(contexts))
    assert {(c.text, c.end, *c.token_ids) for row in found for c in row} == {("", "answer")}


@pytest.mark.parametrize(
    ("kept", "said", "text", "end"),
    [
        ("A red", " cup. The", " cup.", "sentence"),
        ("A red", " cup is 3.5 m long. The", " cup is 3.5 m long.", "sentence"),
        ("A red", " cup, e.g. a mug! It", " cup, e.g. a mug!", "sentence"),
        ("A red", ' cup." It is', ' cup."', "sentence"),
        ("A red", " cup\nIt is", " cup", "sentence"),
        ("The U.S.", " flag is. A", " flag is.", "sentence"),
        ("", "\nRed? It", "\nRed?", "sentence"),
        ("A red", " cup is here", " cup is", "limit"),
        ("A red", " cup in.", " cup in.", "sentence"),  # at the limit, all is said
        ("A red", " cup.<eos>", " cup.", "answer"),
        ("A red", " cup<eos>", " cup", "answer"),
        ("A red", "<eos>", "", "answer"),
    ],
)
def test_where_a_completion_ends(llava, picture, monkeypatch, kept, said, text, end):
    script = iter(encoded(llava, said))
    monkeypatch.setattr(Sampler, "draw", lambda *_: torch.tensor([next(script)]))
    limit = 7 if end == "limit" else len(encoded(llava, said))
    prompt = llava.processor.encode_prompt("What?", [picture(0)])
    before = encoded(llava, "It is. ")
    request = Request(before + encoded(llava, kept), np.zeros(limit), len(before))
    shown = torch.ones(len(prompt), dtype=torch.bool)
    found = complete(Sampler(llava, 1, 1), [prompt], [shown], [[request]])[0][0]
    assert (found.text, found.end) == (text, end)


def test_without_a_sentence_a_completion_goes_on_to_the_end(llava, picture, monkeypatch):
    script = iter(encoded(llava, " A cup. A bowl.<eos>"))
    monkeypatch.setattr(Sampler, "draw", lambda *_: torch.tensor([next(script)]))
    prompt = llava.processor.encode_prompt("What?", [picture(0)])
    shown = torch.ones(len(prompt), dtype=torch.bool)
    found = complete(Sampler(llava, 1, 1), [prompt], [shown], [[Request([], np.zeros(50))]])[0][0]
    assert (found.text, found.end) == ("A cup. A bowl.", "answer")


def drawn(vlm, probabilities, uniforms, temperature=1.0, top_p=1.0):
    logits = torch.full((len(uniforms), len(vlm.processor.tokenizer)), -torch.inf)
    logits[:, : len(probabilities)] = torch.tensor(probabilities).log()
    return Sampler(vlm, temperature, top_p).draw(logits, torch.as_tensor(uniforms)).tolist()


def test_draws_follow_the_probabilities(llava):
    edges = [0.0, 0.1999, 0.2001, 0.2999, 0.3001, 1 - 2**-53]
    assert drawn(llava, [0.2, 0.0, 0.1, 0.7], edges) == [0, 0, 2, 2, 3, 3]


def test_draws_at_a_temperature(llava):
    # Squares of the probabilities, 4 : 1 : 49.
    edges = [4 / 54 - 1e-6, 4 / 54 + 1e-6, 5 / 54 - 1e-6, 5 / 54 + 1e-6]
    assert drawn(llava, [0.2, 0.1, 0.7], edges, temperature=0.5) == [0, 1, 1, 2]
    assert drawn(llava, [0.2, 0.1, 0.7], [0.0, 0.99], temperature=0) == [2, 2]


def test_draws_from_the_nucleus(llava):
    probabilities = [0.2, 0.1, 0.3, 0.4]
    edges = [0.0, 3 / 7 - 1e-6, 3 / 7 + 1e-6, 0.999]
    assert drawn(llava, probabilities, edges, top_p=0.6) == [2, 2, 3, 3]
    assert drawn(llava, probabilities, [0.0, 0.999], top_p=0.1) == [3, 3]
    assert drawn(llava, probabilities, [0.0, 0.999], top_p=0.95) == [0, 3]
