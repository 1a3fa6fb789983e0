"""What tells whether an interrupted sampling may go on: the same model."""

import hashlib

import torch

from mmpref.fingerprint import fingerprint
from mmpref.models import VisionLanguageModel

_VALUES_PER_TENSOR = 256


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
