import io

import pyarrow.parquet as pq
import pytest
import torch

from mmpref.errors import InputError
from mmpref.logprobs import reference
from mmpref.logprobs.degradation import degraded_images
from mmpref.logprobs.encoding import encode
from mmpref.logprobs.forward import log_probabilities
from mmpref.logprobs.reference import Degradation, compute, origin, read_reference
from mmpref.logprobs.views import CHOSEN, REJECTED, View
from mmpref.records.images import open_image
from mmpref.records.pairs import write_pairs
from mmpref.records.rows import Pair

CROPS = Degradation("crop_0_20", seed=3, epochs=2)


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
        return log_probabilities(vlm, [encode(vlm, pair, images)], [view])[view].sum.item()


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_answers_are_those_of_each_pair_alone(
    tmp_path, saved_llava, llava, pairs, pairs_file, batch_size
):
    output = tmp_path / "answers.parquet"
    compute(output, saved_llava, pairs_file, "float32", batch_size)
    table = pq.read_table(output).to_pydict()
    assert list(table) == ["id", "chosen", "rejected"]
    assert table["id"] == [pair.id for pair in pairs]
    for i, pair in enumerate(pairs):
        images = {"original": [open_image(data) for data in pair.images]}
        for view in ("chosen", "rejected"):
            expected = one_by_one(llava, pair, images, View(view))
            assert table[view][i] == pytest.approx(expected, rel=1e-5)


def test_degraded_are_those_of_each_pair_and_epoch(tmp_path, saved_llava, llava, pairs, pairs_file):
    output = tmp_path / "degraded.parquet"
    compute(output, saved_llava, pairs_file, "float32", 4, CROPS)
    table = pq.read_table(output).to_pydict()
    assert list(table) == ["id", "epoch", "chosen_degraded_image"]
    assert table["id"] == [pair.id for pair in pairs] * 2
    assert table["epoch"] == [0] * 7 + [1] * 7
    for row, logp in enumerate(table["chosen_degraded_image"]):
        pair = pairs[row % 7]
        images = {"crop_0_20": degraded_images("crop_0_20", pair, pairs, 3, row // 7)}
        expected = one_by_one(llava, pair, images, View("chosen", "crop_0_20"))
        assert logp == pytest.approx(expected, rel=1e-5)
    assert table["chosen_degraded_image"][:7] != table["chosen_degraded_image"][7:]


def test_the_same_input_gives_the_same_bytes(tmp_path, saved_llava, pairs_file):
    for name in ("a", "b"):
        compute(tmp_path / name, saved_llava, pairs_file, "float32", 4)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.fixture
def stored(tmp_path, saved_llava, pairs_file):
    answers, degraded = tmp_path / "answers.parquet", tmp_path / "degraded.parquet"
    compute(answers, saved_llava, pairs_file, "float32", 4)
    compute(degraded, saved_llava, pairs_file, "float32", 4, CROPS)
    return origin(pairs_file, saved_llava, "float32"), answers, degraded


def test_what_is_read_is_what_was_written(stored):
    facts, answers, degraded = stored
    found = read_reference(facts, answers, degraded, "crop_0_20", epochs=2)
    table = pq.read_table(answers).to_pydict()
    crops = pq.read_table(degraded).to_pydict()["chosen_degraded_image"]
    assert found.degradation == CROPS
    assert found.of("pair 4", REJECTED, 1) == table["rejected"][4]
    assert found.of("pair 4", CHOSEN, 0) == table["chosen"][4]
    assert found.of("pair 4", View("chosen", "crop_0_20"), 1) == crops[7 + 4]


def test_without_a_degraded_image_only_answers_are_read(stored):
    facts, answers, _ = stored
    assert read_reference(facts, answers, None, None, epochs=9).degradation is None


@pytest.mark.parametrize("key", ["pairs", "model", "dtype"])
def test_a_reference_of_something_else_is_refused(stored, key):
    facts, answers, degraded = stored
    with pytest.raises(InputError, match=rf"answers\.parquet.*{key}: .*, not other"):
        read_reference({**facts, key: "other"}, answers, degraded, "crop_0_20", 2)


def test_degraded_images_of_another_kind_are_refused(stored):
    facts, answers, degraded = stored
    with pytest.raises(InputError, match=r"degraded\.parquet.*kind: crop_0_20, not black"):
        read_reference(facts, answers, degraded, "black", 2)
    with pytest.raises(InputError, match=r"answers\.parquet.*kind: none, not black"):
        read_reference(facts, answers, answers, "black", 2)


def test_too_few_epochs_are_refused(stored):
    facts, answers, degraded = stored
    with pytest.raises(InputError, match="has 2 epochs, 3 are trained"):
        read_reference(facts, answers, degraded, "crop_0_20", 3)


def test_a_missing_a_damaged_and_a_foreign_file_are_refused(stored, tmp_path, pairs_file):
    facts, answers, _ = stored
    with pytest.raises(InputError, match="is needed too"):
        read_reference(facts, answers, None, "crop_0_20", 1)
    with pytest.raises(InputError, match="does not exist"):
        read_reference(facts, tmp_path / "nothing", None, None, 1)
    with pytest.raises(InputError, match="no log-probabilities"):
        read_reference(facts, pairs_file, None, None, 1)
    answers.write_bytes(answers.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_reference(facts, answers, None, None, 1)


def test_another_weight_is_another_model(saved_llava, pairs_file, make_vlm):
    before = origin(pairs_file, saved_llava, "float32")
    make_vlm("llava", seed=1).model.save_pretrained(saved_llava)
    assert origin(pairs_file, saved_llava, "float32")["model"] != before["model"]


def test_a_pair_too_long_for_the_model_is_named(llava, pairs):
    llava.model.config.text_config.max_position_embeddings = 60
    images = {"original": [open_image(pairs[3].images[0])]}
    with pytest.raises(
        InputError, match=r"pair pair 3: .* are \d+ tokens, the model looks back 60"
    ):
        encode(llava, pairs[3], images)


def test_nothing_is_left_of_a_reference_that_failed(tmp_path, saved_llava, pairs_file, monkeypatch):
    monkeypatch.setattr(reference, "encode", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        compute(tmp_path / "out" / "answers.parquet", saved_llava, pairs_file, "float32", 4)
    assert not list(tmp_path.glob("out/*"))
