"""Sampling in parts: by shard, and from where an interrupted shard stopped."""

import hashlib
from collections.abc import Sequence

import torch

from mmpref.errors import InputError
from mmpref.fingerprint import fingerprint
from mmpref.models import VisionLanguageModel
from mmpref.records.rows import Pair

_VALUES_PER_TENSOR = 256


def numbers_of(total: int, shard: int, shards: int) -> range:
    """Return the numbers of a shard's pairs, 0 <= `shard` < `shards`: every `shards`-th one."""
    if not 0 <= shard < shards:
        raise ValueError(f"shard {shard} of {shards} does not exist")
    return range(shard, total, shards)


def merge(shards: Sequence[Sequence[Pair]]) -> list[Pair]:
    """Return the pairs of all shards, given in the order of their numbers, in the original order.

    Raises:
        InputError: their lengths are not those of the shards of one list.
    """
    total = sum(map(len, shards))
    for number, pairs in enumerate(shards):
        expected = len(range(number, total, len(shards)))
        if len(pairs) != expected:
            raise InputError(
                f"shard {number} of {len(shards)} has {len(pairs)} pairs where {expected} of "
                f"{total} are expected: one was sampled from other pairs; sample the shards anew"
            )
    return [shards[i % len(shards)][i // len(shards)] for i in range(total)]


def model_fingerprint(vlm: VisionLanguageModel) -> str:
    """Return a digest of a model's configuration, tokenizer, template and (sampled) weights.

    Of every tensor some values count, spread over it: training changes them all.
    """
    digest = hashlib.sha256()
    for name, tensor in vlm.model.state_dict().items():
        flat = tensor.reshape(-1)
        some = flat[:: max(1, len(flat) // _VALUES_PER_TENSOR)].to(torch.float64).cpu()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(some.numpy().tobytes())
    vocabulary = sorted(vlm.processor.tokenizer.get_vocab().items())
    template = getattr(vlm.processor.hf, "chat_template", None)
    return fingerprint(
        {"weights": digest.hexdigest(), "vocabulary": vocabulary, "template": template}
    )
