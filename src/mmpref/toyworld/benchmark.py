"""What the world offers to the study: benchmark items and preference pairs."""

from typing import Any

import numpy as np

from mmpref.randomness import generator
from mmpref.records.items import SETTINGS, Item
from mmpref.records.rows import Pair
from mmpref.toyworld import language, render
from mmpref.toyworld.scenes import OBJECTS, PRIORS, Scene, scene

# Objects by how often they occur in the whole world, most frequent first.
POPULAR = sorted(
    OBJECTS,
    key=lambda name: -sum(prior.get(name, 0) / sum(prior.values()) for prior in PRIORS.values()),
)
CANDIDATES = 3
"""Popular and adversarial questions ask for one of so many candidates, the first in their order."""


def caption_items(seed: int, split: str, count: int) -> list[Item]:
    """Return one item a scene that asks for a description, with what is there and what is not."""
    items = []
    for one in (scene(seed, split, index) for index in range(count)):
        images, truth = (render.png(one, seed),), {"kind": "caption", **_content(one)}
        items.append(Item(f"{one.id}-caption", images, language.CAPTION_PROMPTS[0], truth))
    return items


def yesno_items(seed: int, split: str, count_per_setting: int) -> list[Item]:
    """Return yes/no items as in POPE (Li et al. 2023, section 4), half of a setting's answers yes.

    Every scene is asked for one of its objects and for an absent one: any (random), one of the
    most frequent of the world (popular) or of the likeliest in such a place (adversarial).
    """
    items = []
    for setting in SETTINGS:
        for index in range(count_per_setting):
            one, present = scene(seed, split, index // 2), index % 2 == 0
            rng = generator(seed, "yesno", one.id, setting, index % 2)
            name = str(rng.choice(one.names)) if present else absent_object(one, setting, rng)
            label = "yes" if present else "no"
            truth = {"kind": "yesno", "object": name, "label": label, "setting": setting}
            images, question = (render.png(one, seed),), language.yesno_question(name)
            items.append(Item(f"{one.id}-{setting}-{label}", images, question, truth))
    return items


def absent_object(one: Scene, setting: str, rng: np.random.Generator) -> str:
    """Return an object that is not in the scene, chosen as the setting says."""
    absent = {
        "random": [name for name in OBJECTS if name not in one.names],
        "popular": [name for name in POPULAR if name not in one.names][:CANDIDATES],
        "adversarial": one.likely[:CANDIDATES],
    }
    return str(rng.choice(absent[setting]))


def preference_pairs(seed: int, count: int, yesno_share: float) -> list[Pair]:
    """Return preference pairs over the scenes of the split "pairs", one a scene.

    The chosen answer is true. The rejected caption mentions a likely but absent object besides,
    like those of POVID (Zhou et al. 2024); a rejected yes/no answer says the
    opposite. `yesno_share` is the probability that a pair is about a yes/no question.
    """
    return [_pair(seed, scene(seed, "pairs", index), yesno_share) for index in range(count)]


def _pair(seed: int, one: Scene, yesno_share: float) -> Pair:
    rng = generator(seed, "pair", one.id)
    if rng.random() < yesno_share:
        present = bool(rng.random() < 0.5)
        name = str(rng.choice(one.names)) if present else language.likely_absent(one, rng)
        prompt = language.yesno_question(name)
        chosen = language.yesno_answer(name, present)
        rejected = language.yesno_answer(name, not present)
    else:
        prompt = language.CAPTION_PROMPTS[rng.integers(len(language.CAPTION_PROMPTS))]
        chosen = str(language.true_caption(one, rng))
        rejected = str(language.caption(one, [language.likely_absent(one, rng)], rng))
    images, meta = (render.png(one, seed),), {"scene": one.place, **_content(one)}
    return Pair(one.id, images, prompt, chosen, rejected, "toyworld", meta)


def _content(one: Scene) -> dict[str, Any]:
    """Return what is in a scene, what one would expect there, and all there might be."""
    return {"objects": list(one.names), "likely": list(one.likely), "vocabulary": list(OBJECTS)}
