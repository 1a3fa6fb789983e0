"""Forward diffusion, of pictures here and of the pixels of a model in sampling."""

import numpy as np


def signal_scale(steps: int) -> float:
    """Return sqrt(alpha-bar) after so many of the 1000 steps of BDHS, Equation 8."""
    betas = 1 / (1 + np.exp(-np.linspace(-6, 6, 1000))) * (0.5e-2 - 1e-5) + 1e-5
    return float(np.sqrt(np.prod(1 - betas[: steps + 1])))
