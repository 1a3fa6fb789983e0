"""Which image tokens a model may look at."""

import numpy as np
import torch
from torch import Tensor

from mmpref.models import Prompt


def visible_tokens(prompt: Prompt, mask_ratio: float, rng: np.random.Generator) -> Tensor:
    """Return which tokens [P] of a prompt are visible: all text, and each image token by chance.

    An image token is visible when its draw from U(0, 1) is at least `mask_ratio` (Equation 6 of
    arXiv 2407.02477). All image tokens of all images count, those that end a line included.

    A token that no other may attend to is as good as absent: whoever uses the mask leaves hidden
    tokens out, and the others keep their positions.
    """
    visible = ~prompt.is_image
    draws = rng.random(int(prompt.is_image.sum()))
    visible[prompt.is_image] = torch.from_numpy(draws >= mask_ratio)
    return visible
