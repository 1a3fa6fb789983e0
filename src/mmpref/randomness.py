"""Random draws that belong to an example, not to a process."""

import hashlib

import numpy as np


def seed_of(*keys: str | int) -> int:
    """Return a 64-bit seed that depends on `keys` (their values, types and order) alone."""
    return int.from_bytes(hashlib.blake2b(repr(keys).encode(), digest_size=8).digest(), "big")


def generator(*keys: str | int) -> np.random.Generator:
    """Return the generator of one draw.

    Keys are the study seed, then what is drawn and for whom: `generator(0, "bdhs", pair_id, 3)`.
    Equal keys give equal draws, whatever the batch size, order, number of workers or a restart.
    """
    return np.random.default_rng(seed_of(*keys))
