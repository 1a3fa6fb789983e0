import numpy as np
import pytest
import torch

from mmpref.models import Prompt
from mmpref.randomness import generator
from mmpref.sampling.bdhs import visible_tokens


def prompt_with(image_tokens):
    is_image = torch.tensor([False, False] + [True] * image_tokens + [False])
    return Prompt(torch.arange(len(is_image)), is_image)


@pytest.mark.parametrize("mask_ratio", [0.0, 0.3, 0.99, 1.0])
def test_share_of_visible_image_tokens(mask_ratio):
    count = 40_000
    visible = visible_tokens(prompt_with(count), mask_ratio, np.random.default_rng(0))
    assert visible[[0, 1, -1]].all()
    spread = (count * mask_ratio * (1 - mask_ratio)) ** 0.5
    assert abs(visible[2:-1].sum().item() - count * (1 - mask_ratio)) <= 4 * spread


def test_tokens_are_hidden_independently():
    masks = torch.stack(
        [
            visible_tokens(prompt_with(8), 0.5, generator(0, "bdhs-mask", f"pair {i}", 1))[2:-1]
            for i in range(2000)
        ]
    )
    deviations = masks.double() - 0.5
    covariance = deviations.T @ deviations / len(masks)
    torch.testing.assert_close(covariance, 0.25 * torch.eye(8).double(), rtol=0, atol=0.03)


def test_the_same_draws_give_the_same_mask():
    prompt = prompt_with(100)
    first, again, other = (
        visible_tokens(prompt, 0.5, generator(0, "bdhs-mask", "pair", iteration))
        for iteration in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_more_is_visible_at_a_lower_ratio():
    some, more = (
        visible_tokens(prompt_with(100), ratio, np.random.default_rng(1)) for ratio in (0.8, 0.4)
    )
    assert (more | ~some).all()
    assert more.sum() > some.sum()


def test_a_prompt_without_image_is_visible():
    assert visible_tokens(prompt_with(0), 1.0, np.random.default_rng(0)).all()
