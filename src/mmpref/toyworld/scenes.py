"""Scenes: which objects a place usually has, and which ones this scene has."""

from dataclasses import dataclass

import numpy as np

from mmpref.randomness import generator

IMAGE_SIZE = 72
"""Side of a rendered image in pixels."""

SPLITS = ("pretrain", "pairs", "validation", "test")

# How often an object is picked for a place, relative to the others named there; COCO's names.
PRIORS: dict[str, dict[str, float]] = {
    "kitchen": {
        "oven": 1.0,
        "refrigerator": 0.9,
        "cup": 0.9,
        "bowl": 0.8,
        "bottle": 0.7,
        "banana": 0.6,
        "wine glass": 0.6,
        "chair": 0.5,
    },
    "living room": {
        "couch": 1.0,
        "vase": 0.9,
        "chair": 0.8,
        "clock": 0.8,
        "book": 0.7,
        "dining table": 0.7,
        "cat": 0.6,
        "wine glass": 0.5,
    },
    "office": {
        "laptop": 1.0,
        "book": 0.9,
        "chair": 0.9,
        "cup": 0.8,
        "clock": 0.7,
        "person": 0.7,
        "bottle": 0.6,
        "vase": 0.5,
    },
    "street": {
        "car": 1.0,
        "traffic light": 0.9,
        "person": 0.9,
        "bicycle": 0.8,
        "bus": 0.7,
        "dog": 0.6,
        "umbrella": 0.6,
        "bench": 0.5,
    },
    "park": {
        "bench": 1.0,
        "dog": 0.9,
        "kite": 0.9,
        "bird": 0.8,
        "person": 0.7,
        "bicycle": 0.7,
        "umbrella": 0.6,
        "cat": 0.5,
    },
}
ELSEWHERE = 0.03
"""The weight of any object in a place where one does not expect it."""

OBJECTS = tuple(sorted({name for prior in PRIORS.values() for name in prior}))
PLACES = tuple(PRIORS)

# Side of an object's box in pixels, and the part of the image's height its centre may lie in.
LARGE, MEDIUM, SMALL = (24, 32), (20, 27), (17, 23)
SIZES = {
    **dict.fromkeys(OBJECTS, MEDIUM),
    **dict.fromkeys(("bus", "car", "couch", "dining table", "oven", "refrigerator"), LARGE),
    **dict.fromkeys(("banana", "bird", "book", "bottle", "bowl", "clock", "cup"), SMALL),
}
ANYWHERE, HIGH, LOW = (0.15, 0.85), (0.15, 0.5), (0.4, 0.85)
HEIGHTS = {
    **dict.fromkeys(OBJECTS, ANYWHERE),
    **dict.fromkeys(("bird", "clock", "kite", "traffic light"), HIGH),
    **dict.fromkeys(("bench", "bicycle", "bus", "car", "cat", "couch"), LOW),
    **dict.fromkeys(("chair", "dining table", "dog", "oven", "person", "refrigerator"), LOW),
}


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
    for name in sorted(map(str, names), key=lambda name: -SIZES[name][1]):
        placed.append(_place(name, placed, rng))
    placed.sort(key=lambda one: one.top + one.height)
    return Scene(f"{split}-{index}", place, tuple(placed))


def _place(name: str, others: list[PlacedObject], rng: np.random.Generator) -> PlacedObject:
    """Return `name` at the least crowded of some random spots."""
    best, best_overlap = None, np.inf
    for attempt in range(60):
        low, high = HEIGHTS[name] if attempt < 30 else ANYWHERE
        width, height = map(float, rng.uniform(*SIZES[name]) * rng.uniform(0.9, 1.1, size=2))
        left = float(rng.uniform(0, IMAGE_SIZE - width))
        top = float(np.clip(rng.uniform(low, high) * IMAGE_SIZE - height / 2, 0, None))
        top = min(top, IMAGE_SIZE - height)
        colour, mirrored = int(rng.integers(1 << 16)), bool(rng.integers(2))
        candidate = PlacedObject(name, left, top, width, height, colour, mirrored)
        overlap = sum(_overlap(candidate, other) for other in others)
        if overlap < best_overlap:
            best, best_overlap = candidate, overlap
        if overlap == 0:
            break
    assert best is not None
    return best


def _overlap(one: PlacedObject, other: PlacedObject) -> float:
    """Return the area in square pixels that two boxes share."""
    across = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    down = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    return max(across, 0.0) * max(down, 0.0)
