"""What tells whether an interrupted sampling may go on: the same model and inputs."""

import hashlib
import json
from collections.abc import Iterable, Sequence

import torch

from mmpref.fingerprint import fingerprint
from mmpref.models import VisionLanguageModel
from mmpref.records.rows import Pair
from mmpref.study.parts import Part


def shard_key(vlm: VisionLanguageModel, pairs: Sequence[Pair], settings: Part, seed: int) -> str:
    """Return what a journal of rejected answers belongs to: settings, seed, model and inputs."""
    # What does not change a result is not a reason to start again.
    relevant = settings.model_dump(exclude={"batch_size", "shards"}, exclude_none=True)
    facts = {"settings": relevant, "seed": seed, "model": model_fingerprint(vlm)}
    content = hashlib.sha256(fingerprint(facts).encode())
    for pair in pairs:
        content.update(content_of(pair.id, pair.images, pair.prompt, pair.chosen))
    return content.hexdigest()[:16]


def content_of(name: str, images: Iterable[bytes], *texts: str) -> bytes:
    """Return what tells an example from another one of the same name."""
    pictures = [hashlib.sha256(image).hexdigest() for image in images]
    return json.dumps([name, pictures, *texts]).encode()


def model_fingerprint(vlm: VisionLanguageModel) -> str:
    """Return a digest of a model's configuration, tokenizer, template and (sampled) weights.

    Of every tensor 256 values or so count, spread over it: training changes them all.
    """
    digest = hashlib.sha256()
    for name, tensor in vlm.model.state_dict().items():
        flat = tensor.reshape(-1)
        some = flat[:: max(1, len(flat) // 256)].to(torch.float64).cpu()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(some.numpy().tobytes())
    vocabulary = sorted(vlm.processor.tokenizer.get_vocab().items())
    template = getattr(vlm.processor.hf, "chat_template", None)
    facts = {"weights": digest.hexdigest(), "vocabulary": vocabulary, "template": template}
    return fingerprint(facts)
