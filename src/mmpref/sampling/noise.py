"""Diffusion noise on the pixels that a model gets (arXiv 2407.02477, Equation 8)."""

from dataclasses import replace

import numpy as np
import torch

from mmpref.errors import InputError
from mmpref.logprobs.diffusion import signal_scale
from mmpref.models import Prompt


def noisy(prompt: Prompt, step: int, rng: np.random.Generator) -> Prompt:
    """Return a prompt whose normalised pixels are diffused up to `step` of 1000 (from 0).

    Every value x of `pixel_values`, in all tiles of all images, becomes `a x + sqrt(1 - a^2) e`
    with `a = signal_scale(step)` and e from N(0, 1), drawn by `rng` in the order of the tensor.

    Raises:
        InputError: the model's processor gives no `pixel_values`.
    """
    signal = signal_scale(step)
    pixels = dict(prompt.pixels)
    found = sorted(name for name in pixels if name.startswith("pixel_values"))
    if not found:
        raise InputError(
            "noise is for images, and the model's processor gives no pixel_values; give the pair "
            "an image, or hide image tokens instead (mask_ratio)"
        )
    for name in found:
        clean = pixels[name].float()
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
        pixels[name] = signal * clean + (1 - signal**2) ** 0.5 * noise
    return replace(prompt, pixels=pixels)
