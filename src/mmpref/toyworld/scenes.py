"""Scenes: which objects a place usually has, and which ones this scene has."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mmpref.randomness import generator

IMAGE_SIZE = 72
"""Side of a rendered image in pixels."""

SPLITS = ("pretrain", "pairs", "validation", "test")

# What the world holds is described in the file.
_WORLD = yaml.safe_load(Path(__file__).with_name("world.yaml").read_text(encoding="utf-8"))
PRIORS: dict[str, dict[str, float]] = _WORLD["places"]
LOOKS: dict[str, dict[str, Any]] = _WORLD["objects"]
COLOURS: dict[str, list[int]] = _WORLD["colours"]
OBJECTS, PLACES = tuple(sorted(LOOKS)), tuple(PRIORS)

ELSEWHERE = 0.03
"""The weight of any object in a place where one does not expect it."""


@dataclass(frozen=True)
class PlacedObject:
    """An object in a scene: its box in pixels, which of its colours it has, which way it faces."""

    name: str
    left: float
    top: float
    width: float
    height: float
    colour: int
    mirrored: bool

    @property
    def position(self) -> str:
        """Return where the middle of the object lies: "left", "middle" or "right"."""
        centre = (self.left + self.width / 2) / IMAGE_SIZE
        return "left" if centre < 0.36 else "right" if centre > 0.64 else "middle"


@dataclass(frozen=True)
class Scene:
    """A place with three to five different objects, from back to front."""

    id: str
    place: str
    objects: tuple[PlacedObject, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the objects in the scene."""
        return tuple(placed.name for placed in self.objects)

    @property
    def likely(self) -> tuple[str, ...]:
        """Return what one expects in such a place and what is not there, likeliest first."""
        return tuple(name for name in PRIORS[self.place] if name not in self.names)


def scene(seed: int, split: str, index: int) -> Scene:
    """Return scene `index` of a split of the world `seed`; splits never share a scene."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}, not one of {', '.join(SPLITS)}")
    rng = generator(seed, "scene", split, index)
    place = PLACES[rng.integers(len(PLACES))]
    weights = np.array([PRIORS[place].get(name, ELSEWHERE) for name in OBJECTS])
    count = int(rng.integers(3, 6))
    names = rng.choice(OBJECTS, size=count, replace=False, p=weights / weights.sum())
    placed: list[PlacedObject] = []
    for name in sorted(map(str, names), key=lambda name: -LOOKS[name]["size"][1]):
        placed.append(_place(name, placed, rng))
    placed.sort(key=lambda one: one.top + one.height)
    return Scene(f"{split}-{index}", place, tuple(placed))


def _place(name: str, others: list[PlacedObject], rng: np.random.Generator) -> PlacedObject:
    """Return `name` at the first free or else the least crowded of some random spots."""
    look, spots = LOOKS[name], []
    for attempt in range(60):
        low, high = look["height"] if attempt < 30 else _WORLD["heights"]["anywhere"]
        width, height = map(float, rng.uniform(*look["size"]) * rng.uniform(0.9, 1.1, size=2))
        left = float(rng.uniform(0, IMAGE_SIZE - width))
        top = rng.uniform(low, high) * IMAGE_SIZE - height / 2
        top = float(np.clip(top, 0, IMAGE_SIZE - height))
        colour, mirrored = int(rng.integers(1 << 16)), bool(rng.integers(2))
        spot = PlacedObject(name, left, top, width, height, colour, mirrored)
        spots.append((sum(_overlap(spot, other) for other in others), spot))
        if spots[-1][0] == 0:
            break
    return min(spots, key=lambda spot: spot[0])[1]


def _overlap(one: PlacedObject, other: PlacedObject) -> float:
    """Return the area in square pixels that two boxes share."""
    across = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    down = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    return max(across, 0.0) * max(down, 0.0)
