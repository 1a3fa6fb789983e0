import io
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from training_jobs import compute

from mmpref.errors import InputError
from mmpref.logprobs import reference
from mmpref.logprobs.degradation import degraded_images
from mmpref.logprobs.encoding import Unfit, encode
from mmpref.logprobs.examples import Examples, Turn, batches_of
from mmpref.logprobs.forward import Example, log_probabilities
from mmpref.logprobs.reference import compute_shard, merge, origin, read_reference
from mmpref.logprobs.views import CHOSEN, REJECTED, View
from mmpref.records.images import open_image
from mmpref.records.pairs import Pairs, write_pairs
from mmpref.records.rows import Pair
from mmpref.study.reference import Stored
from mmpref.training.data import PairDataset

BOTH = Stored(image="original", answers=("chosen", "rejected"))
CROPS = Stored(image="crop_0_20", answers=("chosen",), epochs=2, seed=3)
CROPPED = View("chosen", "crop_0_20")


@pytest.fixture
def pairs(picture):
    made = []
    for i in range(7):
        file = io.BytesIO()
        picture(i, (20 + i, 24)).save(file, "PNG")
        chosen, rejected = "A cup. " * (1 + i * 3 % 5), "A dog. " * (1 + i * 2 % 7)
        made.append(
            Pair(f"pair {i}", (file.getvalue(),), f"What {i}?", chosen, rejected, "test", {})
        )
    return made


@pytest.fixture
def pairs_file(tmp_path, pairs):
    write_pairs(tmp_path / "pairs.parquet", pairs)
    return tmp_path / "pairs.parquet"


def one_by_one(vlm, pair, images, view):
    with torch.no_grad():
        example = encode(vlm.processor, pair, images, [view.answer], 2048)
        found = log_probabilities(vlm, [example], [view], True)[view]
    return found.sum.item(), found.tokens.item(), found.by_token[0].tolist()


def original(pair):
    return {"original": [open_image(data) for data in pair.images]}


@pytest.mark.parametrize(("batch_size", "shards"), [(1, 1), (3, 2), (100, 7), (2, 9)])
def test_answers_are_those_of_each_pair_alone(
    tmp_path, saved_llava, llava, pairs, pairs_file, batch_size, shards
):
    output = tmp_path / "original.parquet"
    each = BOTH.model_copy(update={"by_token": True})
    compute(output, saved_llava, pairs_file, "float32", batch_size, each, shards)
    table = pq.read_table(output).to_pydict()
    kinds = ("sum", "tokens", "by_token")
    assert list(table) == [
        "id",
        "epoch",
        "kept_out",
        *(f"{kind}/{answer}" for answer in ("chosen", "rejected") for kind in kinds),
    ]
    assert table["id"] == [pair.id for pair in pairs]
    assert table["epoch"] == [0] * 7
    for i, pair in enumerate(pairs):
        for view in (CHOSEN, REJECTED):
            total, tokens, by_token = one_by_one(llava, pair, original(pair), view)
            assert table[f"sum/{view.answer}"][i] == pytest.approx(total, rel=1e-5)
            assert table[f"tokens/{view.answer}"][i] == tokens
            assert table[f"by_token/{view.answer}"][i] == pytest.approx(by_token, rel=1e-4)


def test_without_an_image_answers_are_those_of_the_texts_alone(
    tmp_path, saved_llava, llava, pairs, pairs_file
):
    texts = Stored(image="none", answers=("chosen", "rejected"), epochs=2, seed=3)
    compute(tmp_path / "none.parquet", saved_llava, pairs_file, "float32", 4, texts, 1)
    table = pq.read_table(tmp_path / "none.parquet").to_pydict()
    for i, pair in enumerate([*pairs, *pairs]):
        for answer in ("chosen", "rejected"):
            alone = one_by_one(llava, pair, {"none": []}, View(answer, "none"))[0]
            assert table[f"sum/{answer}"][i] == pytest.approx(alone, rel=1e-5)
    seen = one_by_one(llava, pairs[0], original(pairs[0]), CHOSEN)[0]
    assert table["sum/chosen"][0] != pytest.approx(seen, rel=1e-3)


@pytest.mark.parametrize("shards", [1, 3])
def test_degraded_are_those_of_each_pair_and_epoch(
    tmp_path, saved_llava, llava, pairs, pairs_file, shards
):
    output = tmp_path / "crop_0_20.parquet"
    compute(output, saved_llava, pairs_file, "float32", 4, CROPS, shards)
    table = pq.read_table(output).to_pydict()
    assert list(table) == ["id", "epoch", "kept_out", "sum/chosen", "tokens/chosen"]
    assert table["id"] == [pair.id for pair in pairs] * 2
    assert table["epoch"] == [0] * 7 + [1] * 7
    for row, logp in enumerate(table["sum/chosen"]):
        pair = pairs[row % 7]
        images = {"crop_0_20": degraded_images("crop_0_20", pair, pairs, 3, row // 7)}
        assert logp == pytest.approx(one_by_one(llava, pair, images, CROPPED)[0], rel=1e-5)
    assert table["sum/chosen"][:7] != table["sum/chosen"][7:]


def test_the_same_input_gives_the_same_bytes(tmp_path, saved_llava, pairs_file):
    for name in ("a", "b"):
        compute_shard(tmp_path / name, saved_llava, pairs_file, "float32", 4, BOTH)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# --- interrupted ---


def test_an_interrupted_shard_goes_on_to_the_same_bytes(
    tmp_path, saved_llava, pairs_file, monkeypatch
):
    arguments = (saved_llava, pairs_file, "float32", 2, CROPS)
    compute_shard(tmp_path / "undisturbed.parquet", *arguments)
    batches: list[list[Example] | None] = []

    def counted(vlm, examples, *rest):
        if len(batches) in (2, 6):
            batches.append(None)
            raise KeyboardInterrupt
        batches.append(examples)
        return log_probabilities(vlm, examples, *rest)

    monkeypatch.setattr(reference, "log_probabilities", counted)
    output = tmp_path / "disturbed.parquet"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            compute_shard(output, *arguments)
        assert not output.exists()
    # Killed while a batch was being noted: half a line is no line.
    with output.with_suffix(".journal").open("ab") as journal:
        journal.write(b'{"rows": [{"chosen"')
    compute_shard(output, *arguments)
    assert output.read_bytes() == (tmp_path / "undisturbed.parquet").read_bytes()
    assert len([batch for batch in batches if batch]) == 7
    assert not output.with_suffix(".journal").exists()


def test_a_journal_of_other_settings_is_begun_anew(tmp_path, saved_llava, pairs_file, monkeypatch):
    output = tmp_path / "shard.parquet"

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(reference, "write_table", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compute_shard(output, saved_llava, pairs_file, "float32", 2, CROPS)
    other = CROPS.model_copy(update={"seed": 4})
    compute_shard(output, saved_llava, pairs_file, "float32", 2, other)
    compute_shard(tmp_path / "undisturbed.parquet", saved_llava, pairs_file, "float32", 2, other)
    assert output.read_bytes() == (tmp_path / "undisturbed.parquet").read_bytes()


def test_nothing_is_left_of_a_reference_that_failed(tmp_path, saved_llava, pairs_file, monkeypatch):
    output = tmp_path / "out" / "shard.parquet"
    monkeypatch.setattr(reference, "log_probabilities", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        compute_shard(output, saved_llava, pairs_file, "float32", 4, BOTH)
    assert [path.name for path in tmp_path.glob("out/*")] == ["shard.journal"]


# --- merged ---


def test_shards_of_something_else_are_not_merged(tmp_path, saved_llava, pairs_file):
    parts = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    for number, part in enumerate(parts):
        compute_shard(part, saved_llava, pairs_file, "float32", 4, BOTH, number, 2)
    with pytest.raises(InputError, match=r"1\.parquet: was made .*shard: 1, not 0"):
        merge(tmp_path / "whole.parquet", parts[::-1])
    with pytest.raises(InputError, match=r"0\.parquet: was made .*shards: 2, not 1"):
        merge(tmp_path / "whole.parquet", parts[:1])
    other = BOTH.model_copy(update={"by_token": True})
    compute_shard(parts[1], saved_llava, pairs_file, "float32", 4, other, 1, 2)
    with pytest.raises(InputError, match=r"1\.parquet: .*stored\.by_token: True, not False"):
        merge(tmp_path / "whole.parquet", parts)
    with pytest.raises(InputError, match="does not exist"):
        merge(tmp_path / "whole.parquet", [tmp_path / "none.parquet"])
    assert not (tmp_path / "whole.parquet").exists()


# --- read ---


@pytest.fixture
def stored(tmp_path, saved_llava, pairs_file):
    files = (tmp_path / "original.parquet", tmp_path / "crop_0_20.parquet")
    compute(files[0], saved_llava, pairs_file, "float32", 4, BOTH)
    compute(files[1], saved_llava, pairs_file, "float32", 4, CROPS)
    return origin(pairs_file, saved_llava, "float32"), files


ALL = (CHOSEN, REJECTED, CROPPED)


def read(stored, views=ALL, epochs=2, by_token=False, **changes):
    facts, files = stored
    return read_reference(files, {**facts, **changes}, 7, views, by_token, epochs)


def test_what_is_read_is_what_was_written(stored):
    found = read(stored)
    table, crops = (pq.read_table(file).to_pydict() for file in stored[1])
    assert found.seeds == {"crop_0_20": 3}
    assert found.of(Turn(4, 1), REJECTED).sum == table["sum/rejected"][4]
    assert found.of(Turn(4, 0), CHOSEN).sum == table["sum/chosen"][4]
    assert found.of(Turn(4, 0), CHOSEN).tokens == table["tokens/chosen"][4]
    assert found.of(Turn(4, 1), CROPPED).sum == crops["sum/chosen"][7 + 4]
    assert found.of(Turn(4, 1), CROPPED).by_token is None


def test_each_token_is_read_where_it_is_asked_for(tmp_path, saved_llava, pairs_file, stored):
    with pytest.raises(InputError, match=r"original\.parquet: lacks .* each token"):
        read(stored, by_token=True)
    file = tmp_path / "each.parquet"
    each = BOTH.model_copy(update={"by_token": True})
    compute(file, saved_llava, pairs_file, "float32", 4, each)
    found = read((stored[0], [file]), (CHOSEN,), by_token=True).of(Turn(3, 0), CHOSEN)
    assert found.by_token.tolist() == pq.read_table(file)["by_token/chosen"][3].as_py()
    assert found.by_token.sum() == pytest.approx(found.sum, rel=1e-5)
    assert len(found.by_token) == found.tokens


def test_only_the_files_of_the_views_are_read(stored):
    assert read(stored, (CHOSEN, REJECTED), epochs=9).seeds == {}


@pytest.mark.parametrize("key", ["pairs", "model", "dtype"])
def test_a_reference_of_something_else_is_refused(stored, key):
    with pytest.raises(InputError, match=rf"original\.parquet.*{key}: .*, not other"):
        read(stored, **{key: "other"})


def test_images_and_answers_that_are_missing_are_named(stored):
    with pytest.raises(InputError, match=r"crop_0_20\.parquet: nothing about the image black"):
        read(stored, (CHOSEN, View("chosen", "black")))
    with pytest.raises(InputError, match=r"crop_0_20\.parquet: lacks the answer rejected;.*again"):
        read(stored, (CHOSEN, View("rejected", "crop_0_20")))
    with pytest.raises(InputError, match=r"no files: nothing about the image original"):
        read((stored[0], []))


def test_too_few_epochs_are_refused(stored):
    with pytest.raises(InputError, match=r"crop_0_20\.parquet: has 2 epochs where 3 are trained"):
        read(stored, epochs=3)


def test_a_missing_a_damaged_and_a_foreign_file_are_refused(stored, tmp_path, pairs_file):
    facts, (answers, _) = stored
    with pytest.raises(InputError, match="does not exist"):
        read((facts, [tmp_path / "nothing"]), (CHOSEN,))
    with pytest.raises(InputError, match="does not hold reference log-probabilities"):
        read((facts, [pairs_file]), (CHOSEN,))
    answers.write_bytes(answers.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read((facts, [answers]), (CHOSEN,))


def test_a_file_of_another_number_of_rows_is_refused(stored):
    facts, (answers, _) = stored
    table = pq.read_table(answers)
    pq.write_table(table.slice(0, 5), answers)
    with pytest.raises(InputError, match=r"has 5 rows where 7 pairs in 1 epochs.*remove it"):
        read((facts, [answers]), (CHOSEN,))


def test_other_token_counts_than_the_pairs_are_refused(stored, llava, pairs):
    facts, (answers, _) = stored
    table = pq.read_table(answers)
    counts = table["tokens/rejected"].to_pylist()
    counts[5] += 1
    place = table.column_names.index("tokens/rejected")
    changed = table.set_column(place, "tokens/rejected", pa.array(counts, pa.int32()))
    pq.write_table(changed, answers)
    known = read((facts, [answers]), (CHOSEN, REJECTED))
    examples = Examples(llava.processor, pairs, ["original"], ["chosen", "rejected"], {})
    dataset = PairDataset(examples, known, (CHOSEN, REJECTED))
    assert dataset[Turn(4, 0)].reference[REJECTED].tokens == counts[4]
    expected = r"pair 5: its answer rejected has \d+ tokens, and \d+ in the reference; remove"
    with pytest.raises(InputError, match=expected):
        dataset[Turn(5, 0)]


def test_another_weight_is_another_model(saved_llava, pairs_file, make_vlm):
    before = origin(pairs_file, saved_llava, "float32")
    make_vlm("llava", seed=1).model.save_pretrained(saved_llava)
    assert origin(pairs_file, saved_llava, "float32")["model"] != before["model"]


# --- kept out ---

SHORT = {"max_length": 70}


@pytest.mark.parametrize(("batch_size", "shards"), [(1, 1), (3, 2), (7, 1)])
def test_pairs_that_do_not_fit_are_kept_out_under_every_image(
    tmp_path, saved_llava, pairs_file, stored, batch_size, shards
):
    facts, whole = stored
    files = [tmp_path / "short" / file.name for file in whole]
    for file, of in zip(files, (BOTH, CROPS), strict=True):
        short = of.model_copy(update=SHORT)
        compute(file, saved_llava, pairs_file, "float32", batch_size, short, shards)
    found = read_reference(files, facts, 7, ALL, False, 2, 70)
    assert sorted(found.kept_out) == [2, 3, 6]
    assert {why["limit"] for why in found.kept_out.values()} == {70}
    # The crops' file is only about the chosen answers; the longest of the pair count all the same.
    crops = pq.read_table(files[1]).to_pydict()
    out = [row for row, why in enumerate(crops["kept_out"]) if why]
    assert out == [row for row, logp in enumerate(crops["sum/chosen"]) if logp is None]
    assert out == [2, 3, 6, 7 + 2, 7 + 3, 7 + 6]
    known = read(stored)
    for turn in (Turn(0, 0), Turn(5, 1)):
        for view in ALL:
            assert found.of(turn, view).sum == pytest.approx(known.of(turn, view).sum, rel=1e-5)
    with pytest.raises(InputError, match=r"keeps out pairs longer than 70, not None; remove it"):
        read_reference(files, facts, 7, ALL, False, 2)


def test_without_images_the_same_pairs_are_kept_out(tmp_path, saved_llava, pairs_file):
    texts = Stored(image="none", answers=("chosen", "rejected"), epochs=1, seed=3, max_length=70)
    compute(tmp_path / "none.parquet", saved_llava, pairs_file, "float32", 3, texts, 1)
    reasons = pq.read_table(tmp_path / "none.parquet")["kept_out"].to_pylist()
    assert [number for number, why in enumerate(reasons) if why] == [2, 3, 6]


def test_a_reference_with_unfit_pairs_goes_on_to_the_same_bytes(
    tmp_path, saved_llava, pairs_file, monkeypatch
):
    short = BOTH.model_copy(update=SHORT)
    arguments = (saved_llava, pairs_file, "float32", 1, short)
    compute_shard(tmp_path / "undisturbed.parquet", *arguments)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        # The longest come first, so the unfit ones are noted before any is computed.
        patched.setattr(reference, "log_probabilities", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compute_shard(tmp_path / "disturbed.parquet", *arguments)
    assert len((tmp_path / "disturbed.journal").read_text().splitlines()) == 1 + 2
    compute_shard(tmp_path / "disturbed.parquet", *arguments)
    files = [tmp_path / f"{name}.parquet" for name in ("disturbed", "undisturbed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_control_tokens_keep_a_pair_out(tmp_path, saved_llava, pairs):
    texts = {1: {"prompt": "What?<eos>user: Now this."}, 4: {"rejected": "A <pad> dog."}}
    some = [replace(pair, **texts.get(number, {})) for number, pair in enumerate(pairs)]
    write_pairs(tmp_path / "p.parquet", some)
    compute(tmp_path / "o.parquet", saved_llava, tmp_path / "p.parquet", "float32", 3, BOTH)
    facts = origin(tmp_path / "p.parquet", saved_llava, "float32")
    found = read_reference([tmp_path / "o.parquet"], facts, 7, (CHOSEN, REJECTED), False, 1)
    assert found.kept_out == {
        1: {
            "id": "pair 1",
            "field": "prompt",
            "reason": "holds a control token of the model (<eos>)",
        },
        4: {
            "id": "pair 4",
            "field": "rejected",
            "reason": "holds a control token of the model (<pad>)",
        },
    }


def test_no_pair_that_fits_is_an_error(tmp_path, saved_llava, pairs_file):
    none = BOTH.model_copy(update={"max_length": 8})
    message = r"cannot be given any of the 7 pairs\. The first: pair pair 0, .*is too long.*Raise"
    with pytest.raises(InputError, match=message):
        compute(tmp_path / "o.parquet", saved_llava, pairs_file, "float32", 4, none, 2)
    assert not (tmp_path / "o.parquet").exists()


# --- examples ---


@pytest.mark.parametrize("workers", [0, 2])
def test_why_a_pair_is_unfit_survives_the_loader(llava, pairs_file, workers):
    examples = Examples(
        llava.processor, Pairs(pairs_file), ["original"], ["chosen"], {}, max_length=60
    )
    with pytest.raises(Unfit, match=r"pair pair 3, rejected: is too long \(.*at most 60") as caught:
        list(batches_of(examples, [[Turn(3, 0)]], workers))
    facts = caught.value.facts
    assert (facts["id"], facts["field"], facts["limit"]) == ("pair 3", "rejected", 60)
    example = Examples(llava.processor, Pairs(pairs_file), ["original"], ["rejected"], {})[
        Turn(3, 0)
    ]
    lengths = len(example.prompts["original"]), len(example.answers["rejected"])
    assert (facts["prompt_tokens"], facts["answer_tokens"]) == lengths


@pytest.fixture
def image_grows():
    """Pairs of which one has an image of more tiles, so of more tokens, than all others."""
    pairs = []
    for number, size in enumerate([(16, 16), (64, 64), (16, 16)]):
        file = io.BytesIO()
        Image.new("RGB", size, (80 * number, 0, 0)).save(file, "PNG")
        pairs.append(Pair(str(number), (file.getvalue(),), "What?", "A cup.", "A dog.", "test"))
    return pairs


def test_another_pairs_image_keeps_no_pair_out(make_vlm, image_grows):
    """With the image of pair 1 the others would be too long; it is shown as large as their own."""
    processor = make_vlm("llava_next").processor
    kinds, seeds = ["original", "other_image"], {"other_image": 0}

    def lengths(epoch, **options):
        examples = Examples(processor, image_grows, kinds, ["chosen"], seeds, **options)
        prompts = examples[Turn(0, epoch)].prompts
        return [len(prompts[kind]) for kind in kinds]

    larger = next(epoch for epoch in range(20) if len(set(lengths(epoch))) == 2)
    own, other = lengths(larger)
    assert other > own
    limit = own + len("A dog.") + 1
    assert lengths(larger, max_length=limit) == [own, own]
    with pytest.raises(Unfit):
        lengths(larger, max_length=limit - 1)


def test_an_answer_that_a_pair_lacks_is_named(llava, pairs):
    examples = Examples(llava.processor, pairs, ["original"], ["chosen", "rejected_2"], {})
    with pytest.raises(InputError, match="pair pair 2: has no answer rejected_2"):
        examples[Turn(2, 0)]


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_workers_give_the_same_examples(llava, pairs_file, pairs, workers):
    images = ["original", "crop_0_20", "black"]
    seeds = {"crop_0_20": 3, "black": 3}
    answers = ["chosen", "rejected"]
    examples = Examples(llava.processor, Pairs(pairs_file), images, answers, seeds, 10**6)
    plain = Examples(llava.processor, pairs, images, answers, seeds)
    turns = [[Turn(6, 0), Turn(1, 1)], [Turn(0, 1)], [Turn(6, 1), Turn(6, 0)]]
    for batch, expected in zip(batches_of(examples, turns, workers), turns, strict=True):
        for example, turn in zip(batch, expected, strict=True):
            assert example.id == f"pair {turn.number}"
            assert list(example.prompts) == images
            for image in images:
                found, wanted = example.prompts[image], plain[turn].prompts[image]
                assert torch.equal(found.pixels["pixel_values"], wanted.pixels["pixel_values"])
    assert bool(examples.cache) == (workers == 0)


def test_the_cache_is_bounded(llava, pairs):
    one = Examples(llava.processor, pairs, ["original"], ["chosen"], {}, 10**6)
    one[Turn(0, 0)]
    size = 10**6 - one.free_bytes
    assert size > 0
    two = Examples(llava.processor, pairs, ["original"], ["chosen"], {}, 2 * size + 10)
    for number in range(7):
        two[Turn(number, 0)]
    assert len(two.cache) == 2
    assert two[Turn(0, 1)] is two.cache[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_pairs_edited_while_they_are_read_are_one_message(llava, pairs_file, pairs, workers):
    examples = Examples(llava.processor, Pairs(pairs_file), ["original"], ["chosen"], {})

    def turns():
        for number in range(7):
            if number == 3:
                write_pairs(pairs_file, pairs[::-1])
            yield [Turn(number, 0)]

    with pytest.raises(InputError, match=r"pairs\.parquet.*changed") as raised:
        list(batches_of(examples, turns(), workers))
    assert "Traceback" not in str(raised.value)
