import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from mmpref.errors import InputError
from mmpref.language.similarity import exact
from mmpref.randomness import generator
from mmpref.records.images import open_image
from mmpref.records.pairs import Pairs, validate, write_pairs
from mmpref.records.rows import Pair, Quarantined, candidates, merge
from mmpref.sampling import bdhs
from mmpref.sampling.bdhs import visible_tokens
from mmpref.sampling.decoding import Request, Sampler
from mmpref.sampling.rejected import to_check
from mmpref.sampling.splitting import sentence_spans
from mmpref.sampling.statistics import statistics
from mmpref.study.preferences import Bdhs

CHOSEN = [
    "A red cup stands on the table. In addition, there are two spoons.",
    "Yes, there is a dog.\n\n1. It is brown.\n2. It sleeps",
    "No.",
    "Red",
    "Nothing can be seen. Yes, it is dark, e.g. in the corner.",
]


@pytest.fixture
def pairs(picture):
    made = []
    for i, chosen in enumerate(CHOSEN):
        file = io.BytesIO()
        picture(i, (20 + 3 * i, 24)).save(file, "PNG")
        made.append(
            Pair(f"pair {i}", (file.getvalue(),), "What? " * (i % 3 + 1), chosen, "", "test")
        )
    return made


def settings(**changes):
    return Bdhs(
        **{
            "model": "tiny",
            "mask_ratio": 0.7,
            "encoder": "exact",
            "iterations": 3,
            "max_new_tokens": 10,
            "batch_size": 2,
            **changes,
        }
    )


def sample_shard(*arguments):
    return list(bdhs.sample_shard(*arguments))


def scores(*values):
    """A similarity that gives every text the same score, another one in each call."""
    left = list(values)

    def similarity(texts, others):
        score = left.pop(0)
        return [score] * len(texts)

    return similarity


def by_length(texts, others):
    """A similarity of which about half are at the threshold, so that pairs need several tries."""
    return [float(len(text) % 2) for text in texts]


def test_results_do_not_depend_on_batches_shards_or_order(vlm, pairs, tmp_path):
    expected = sample_shard(vlm, by_length, pairs, settings(), 7, tmp_path / "a")
    iterations = [pair.meta["bdhs"]["iteration"] for pair in expected]
    assert len(set(iterations)) > 1  # pairs meet others in later iterations than in the first
    assert len({pair.rejected for pair in expected}) == len(pairs)
    for batch_size in (1, 16):
        changed = settings(batch_size=batch_size)
        found = sample_shard(vlm, by_length, pairs, changed, 7, tmp_path / str(batch_size))
        assert found == expected
    backwards = sample_shard(vlm, by_length, pairs[::-1], settings(), 7, tmp_path / "backwards")
    assert backwards[::-1] == expected
    for shards in (2, 3, 7):
        parts = [
            sample_shard(
                vlm, by_length, pairs, settings(), 7, tmp_path / f"{shards} {i}", i, shards
            )
            for i in range(shards)
        ]
        assert list(merge(parts)) == expected
    other_seed = sample_shard(vlm, by_length, pairs, settings(), 8, tmp_path / "b")
    assert [pair.rejected for pair in other_seed] != [pair.rejected for pair in expected]


def test_merge_refuses_shards_that_do_not_fit(pairs):
    with pytest.raises(InputError, match="shard 0 of 2 has 4 pairs where 3 of 5"):
        merge([pairs[:4], pairs[:1]])


def test_a_guided_answer_follows_the_chosen_one(llava, pairs, tmp_path):
    found = sample_shard(llava, exact, pairs, settings(), 0, tmp_path / "a")
    for pair in found:
        record = pair.meta["bdhs"]
        assert not record["free"]
        spans = sentence_spans(pair.chosen)
        assert len(record["sentences"]) == len(spans)
        rest = pair.rejected
        for (start, end), sentence in zip(spans, record["sentences"], strict=True):
            if not sentence["swapped"]:
                assert pair.chosen[start:end].startswith(sentence["kept"])
            # Nothing is lost between the parts, in this order.
            for part in (sentence["kept"], sentence["completed"]):
                assert part.strip() in rest
                rest = rest[rest.index(part.strip()) + len(part.strip()) :]
        assert rest == ""
    listed = found[1].rejected
    assert "\n\n1." in listed
    assert "\n2." in listed


def test_the_record_tells_the_mask(vlm, pairs, tmp_path):
    found = sample_shard(vlm, by_length, pairs, settings(), 7, tmp_path / "a")
    for pair in found:
        record = pair.meta["bdhs"]
        prompt = vlm.processor.encode_prompt(pair.prompt, [open_image(pair.images[0])])
        draws = generator(7, "bdhs-mask", pair.id, record["iteration"])
        visible = visible_tokens(prompt, 0.7, draws)[prompt.is_image]
        assert (record["visible"], record["image_tokens"]) == (visible.sum(), len(visible))
    json.dumps([pair.meta for pair in found])


def test_similar_answers_are_sampled_anew(llava, pairs, tmp_path):
    one = pairs[:1]
    tries = [
        sample_shard(
            llava, scores(*[0.97] * i, 0.96), one, settings(iterations=5), 0, tmp_path / str(i)
        )[0]
        for i in range(4)
    ]
    records = [pair.meta["bdhs"] for pair in tries]
    assert [record["iteration"] for record in records] == [1, 2, 3, 4]
    assert [record["similarity"] for record in records] == [0.96] * 4
    assert not any(record["free"] for record in records)
    assert len({pair.rejected for pair in tries}) == 4
    assert len({tuple(s["kept"] for s in record["sentences"]) for record in records}) > 1


def test_the_last_answer_is_free_and_counts_whatever_it_says(llava, pairs, tmp_path):
    said = "It is all dark. Nothing.<eos>"
    script = iter(llava.processor.tokenizer(said)["input_ids"])
    contexts = []

    class Scripted(Sampler):
        def complete(self, jobs, rows=None):
            contexts.append([request.context for job in jobs for request in job.requests])
            return super().complete(jobs)

        def draw(self, logits, uniforms):
            if contexts[-1] == [[]]:
                return torch.tensor([next(script)])
            return super().draw(logits, uniforms)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bdhs, "Sampler", Scripted)
        found = sample_shard(llava, scores(1, 1, 0.99), pairs[:1], settings(), 0, tmp_path / "a")[0]
    record = found.meta["bdhs"]
    assert (record["iteration"], record["free"], record["sentences"]) == (3, True, [])
    assert (record["similarity"], record["unfinished"]) == (0.99, False)
    assert found.rejected == "It is all dark. Nothing."


def test_a_free_answer_has_a_limit(llava, pairs, tmp_path):
    head = llava.lm_head
    never_ends = torch.nn.Linear(head.in_features, head.out_features)
    with torch.no_grad():
        never_ends.weight.copy_(head.weight)
        never_ends.bias.zero_()
        never_ends.bias[llava.processor.eos_token_id] = -1000
    llava.model.set_output_embeddings(never_ends)
    found = sample_shard(llava, scores(1, 1, 1), pairs[2:3], settings(), 0, tmp_path / "a")[0]
    record = found.meta["bdhs"]
    assert record["unfinished"]
    limit = 2 * len("No.") + 2 + 10
    assert limit / 2 < len(found.rejected.encode()) <= limit * 3  # broken bytes become three


def test_a_single_iteration_is_guided_and_not_filtered(llava, pairs, tmp_path):
    found = sample_shard(llava, scores(1.0), pairs[:1], settings(iterations=1), 0, tmp_path / "a")[
        0
    ]
    record = found.meta["bdhs"]
    assert (record["iteration"], record["free"], record["similarity"]) == (1, False, 1.0)
    assert len(record["sentences"]) == 2


def test_an_answer_equal_to_the_chosen_one_is_quarantined(llava, pairs, tmp_path, monkeypatch):
    no_stop, eos = llava.processor.tokenizer("No.")["input_ids"], llava.processor.eos_token_id

    class Scripted(Sampler):
        """Says `No.` in a free answer, and the full stop after what is kept in a guided one."""

        def complete(self, jobs, rows=None):
            free = jobs[0].requests[0].begin is None
            self.script = iter([*no_stop, eos] if free else [no_stop[-1], eos])
            return super().complete(jobs)

        def draw(self, logits, uniforms):
            return torch.full((len(logits),), next(self.script))

    monkeypatch.setattr(bdhs, "Sampler", Scripted)

    def far(texts, others):
        """A similarity by which even equal texts would be accepted."""
        return [0.0] * len(texts)

    again = [
        sample_shard(llava, far, pairs[2:3], settings(iterations=2), seed, tmp_path / str(seed))[0]
        for seed in range(8)
    ]
    outcomes = {(pair.rejected, pair.meta["bdhs"]["free"]) for pair in again}
    assert outcomes == {("Yes.", False), ("No.", True)}  # swapped or not

    numbered = [replace(pair, id=str(i)) for i, pair in enumerate(again)]
    rows = list(validate(candidates(numbered, "sampled")))
    quarantined = [row for row in rows if isinstance(row, Quarantined)]
    kept = [row for row in rows if isinstance(row, Pair)]
    assert len(kept) + len(quarantined) == 8
    assert {(row.field, row.reason) for row in quarantined} == {
        ("rejected", "is the same as chosen")
    }
    assert [row.rejected for row in kept] == ["Yes."] * len(kept)
    assert statistics(numbered)["same"] == len(quarantined)


def test_an_empty_answer_is_quarantined(llava, pairs, tmp_path, monkeypatch):
    eos = llava.processor.eos_token_id
    monkeypatch.setattr(Sampler, "draw", lambda self, logits, _: torch.full((len(logits),), eos))
    found = sample_shard(llava, exact, pairs, settings(), 0, tmp_path / "a")
    assert found[3].chosen == "Red"
    assert found[3].rejected == ""
    assert found[3].meta["bdhs"]["iteration"] == 3
    write_pairs(tmp_path / "pairs.parquet", found)
    stored = list(Pairs(tmp_path / "pairs.parquet", require_rejected=False))
    assert stored == found
    rows = list(validate(candidates(stored, "sampled")))
    assert [row.reason for row in rows if isinstance(row, Quarantined)] == ["is empty"]
    assert statistics(found)["empty"] == 1


class Interruption(Exception):
    pass


def interrupting(after):
    calls = []

    def count(texts, others):
        calls.append(list(others))
        if len(calls) > after:
            raise Interruption
        return by_length(texts, others)

    similarity: Any = count
    similarity.calls = calls
    return similarity


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_an_interrupted_shard_goes_on(llava, pairs, tmp_path, after):
    whole = interrupting(1000)
    expected = sample_shard(llava, whole, pairs, settings(), 7, tmp_path / "undisturbed")
    journal = tmp_path / "disturbed"
    with pytest.raises(Interruption):
        sample_shard(llava, interrupting(after), pairs, settings(), 7, journal)
    with journal.open("ab") as file:
        file.write(b'{"id": "pair 4", "iterat')  # killed while writing
    rest = interrupting(1000)
    # Another batch size is no reason to begin anew.
    found = sample_shard(llava, rest, pairs, settings(batch_size=3), 7, journal)
    assert found == expected
    assert sum(map(len, rest.calls)) == sum(map(len, whole.calls[after:]))
    done = interrupting(0)
    assert sample_shard(llava, done, pairs, settings(), 7, journal) == expected


def test_a_killed_process_leaves_a_journal_to_go_on_with(saved_llava, llava, pairs, tmp_path):
    write_pairs(tmp_path / "pairs.parquet", pairs)
    program = f"""
import os, signal
from pathlib import Path
from mmpref.models import VisionLanguageModel
from mmpref.records.pairs import Pairs
from mmpref.sampling.bdhs import sample_shard
from mmpref.study.preferences import Bdhs
calls = []
def similarity(texts, others):
    calls.append(texts)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return [float(len(text) % 2) for text in texts]
pairs = Pairs({str(tmp_path / "pairs.parquet")!r}, require_rejected=False)
settings = Bdhs.model_validate_json({settings().model_dump_json()!r})
vlm = VisionLanguageModel.load({str(saved_llava)!r})
sample_shard(vlm, similarity, pairs, settings, 7, Path({str(tmp_path / "journal")!r}))
"""
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, env=os.environ)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    rest = interrupting(1000)
    found = sample_shard(llava, rest, pairs, settings(), 7, tmp_path / "journal")
    assert found == sample_shard(llava, by_length, pairs, settings(), 7, tmp_path / "undisturbed")
    assert rest.calls[0] == [CHOSEN[4]]


def test_a_journal_of_other_settings_inputs_or_models_is_not_used(llava, pairs, tmp_path):
    changes = [
        (settings(temperature=0.5), pairs, 7, llava),
        (settings(mask_ratio=0.6), pairs, 7, llava),
        (settings(), pairs, 8, llava),
        (settings(), [replace(pairs[0], prompt="Where?"), *pairs[1:]], 7, llava),
        (settings(), [replace(pairs[0], images=pairs[1].images), *pairs[1:]], 7, llava),
    ]
    journal = tmp_path / "journal"
    for changed, rows, seed, vlm in changes:
        sample_shard(llava, by_length, pairs, settings(), 7, journal)
        found = sample_shard(vlm, by_length, rows, changed, seed, journal)
        assert found == sample_shard(vlm, by_length, rows, changed, seed, tmp_path / "new")
        assert len(journal.read_bytes()) == len((tmp_path / "new").read_bytes())
        (tmp_path / "new").unlink()
    sample_shard(llava, by_length, pairs, settings(), 7, journal)
    before = journal.read_text().splitlines()[0]
    with torch.no_grad():
        llava.lm_head.weight.add_(0.01)
    sample_shard(llava, by_length, pairs, settings(), 7, journal)
    assert journal.read_text().splitlines()[0] != before


def test_pairs_that_the_model_cannot_be_given_are_counted_and_quarantined(llava, pairs, tmp_path):
    """Too long, and with control tokens; the others are sampled as they would be without them."""
    expected = sample_shard(llava, by_length, pairs, settings(), 7, tmp_path / "a")
    unfit = [
        replace(pairs[0], id="long", chosen="A cup. " * 400),
        replace(pairs[1], id="image", chosen="An <image> of a cup."),
        replace(pairs[2], id="end", prompt="What?<eos>"),
    ]
    some = [*unfit[:2], *pairs, unfit[2]]
    found = sample_shard(llava, by_length, some, settings(), 7, tmp_path / "b")
    assert found[2:7] == expected
    assert [pair.rejected for pair in (*found[:2], found[7])] == [""] * 3
    numbers = statistics(found)
    assert (numbers["pairs"], numbers["unfit"]) == (8, 3)
    assert sum(numbers["iterations"].values()) == sum(numbers["similarity"]["counts"]) == 5
    bad = [row for row in validate(to_check(found)) if isinstance(row, Quarantined)]
    reasons = {row.id: (row.field, row.reason.partition(" (")[0]) for row in bad}
    assert reasons.items() >= {
        ("long", ("chosen", "is too long")),
        ("image", ("chosen", "holds a control token of the model")),
        ("end", ("prompt", "holds a control token of the model")),
    }
    # An interrupted sampling of them goes on to the same.
    lines = (tmp_path / "b").read_text().splitlines(keepends=True)
    (tmp_path / "c").write_text("".join(lines[:3]))
    assert sample_shard(llava, by_length, some, settings(), 7, tmp_path / "c") == found


def test_a_free_answer_ends_where_the_model_can_no_longer_look_back(
    llava, pairs, tmp_path, monkeypatch
):
    """Of two tries the last one is free: 10 tokens and twice the answer would be too many."""
    rooms = []

    def noted(context, uniforms, begin):
        rooms.append(len(uniforms))
        return Request(context, uniforms, begin)

    monkeypatch.setattr(bdhs, "Request", noted)
    length = len(llava.processor.encode_answer(pairs[0].chosen))
    images = [open_image(pairs[0].images[0])]
    prompt = len(llava.processor.encode_prompt(pairs[0].prompt, images))
    llava.model.config.text_config.max_position_embeddings = prompt + length + 10
    never = scores(1.0, 1.0)
    (found,) = sample_shard(llava, never, pairs[:1], settings(iterations=2), 0, tmp_path / "a")
    assert found.meta["bdhs"]["free"]
    assert rooms == [10, 10, 10 + length]


def test_settings_refuse_what_cannot_be():
    for wrong in ({"mask_ratio": 1.1}, {"iterations": 0}, {"temperature": -1.0}, {"top_p": 0.0}):
        with pytest.raises(ValidationError):
            settings(**wrong)


def test_statistics_add_up(llava, pairs, tmp_path):
    known = [
        replace(pair, meta={"objects": ["cup"], "vocabulary": ["cup", "dog", "spoon"]})
        for pair in pairs[:2]
    ]
    found = sample_shard(llava, by_length, [*known, *pairs[2:]], settings(), 7, tmp_path / "a")
    numbers = statistics(found)
    assert numbers["pairs"] == sum(numbers["iterations"].values()) == 5
    assert sum(numbers["similarity"]["counts"]) == 5
    assert len(numbers["similarity"]["edges"]) == len(numbers["similarity"]["counts"]) + 1
    assert numbers["free"] == sum(pair.meta["bdhs"]["free"] for pair in found)
    assert 0.1 < numbers["visible_share"] < 0.5
    # `two spoons` and `a dog` are not among the objects.
    assert numbers["hallucinated_per_answer"]["chosen"] == 1.0
    assert numbers["hallucinated_per_answer"]["answers"] == 2
    assert "hallucinated_per_answer" not in statistics(found[2:])
    json.dumps(numbers)
