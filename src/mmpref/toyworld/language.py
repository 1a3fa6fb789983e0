"""What is said about a scene: captions, true or with too many objects, and yes/no questions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmpref.toyworld.scenes import OBJECTS, PLACES, PRIORS, Scene

CAPTION_PROMPTS = ("Describe the image.", "What can you see in this image?")
YESNO_PROMPTS = ("Is there {} in the image?", "Can you see {} in the image?")

OPENINGS = ("This is {}.", "The image shows {}.", "This is a photo of {}.")
# Sentences about one, two and three objects. {0} stands for "a cup", {0:A} for "A cup", and
# {0:where} for "on the left".
SENTENCES: dict[int, tuple[str, ...]] = {
    1: ("There is {0}.", "{0:A} is {0:where}.", "There is {0} {0:where}.", "One can also see {0}."),
    2: (
        "There is {0} and {1}.",
        "{0:A} and {1} can be seen.",
        "{0:A} is {0:where} and {1} is {1:where}.",
        "One can also see {0} and {1}.",
    ),
    3: (
        "There is {0}, {1} and {2}.",
        "{0:A}, {1} and {2} can be seen.",
        "One can also see {0}, {1} and {2}.",
    ),
}
WHERE = {"left": "on the left", "middle": "in the middle", "right": "on the right"}
LONGEST = max(SENTENCES)

EXPECTED = 3
"""A captioner is tempted by the absent ones among so many objects, the likeliest of the place."""

DISORDER = 0.2
"""How often two neighbouring mentions change places."""


class Phrase(NamedTuple):
    """An object as a caption mentions it."""

    name: str
    position: str

    def __format__(self, form: str) -> str:
        if form == "where":
            return WHERE[self.position]
        words = with_article(self.name)
        return words.capitalize() if form == "A" else words


class Caption(NamedTuple):
    """A caption before it is written out: an opening, then sentences of one to three mentions.

    Each sentence is (which of the templates for its length, its mentions).
    """

    opening: str
    sentences: list[tuple[int, list[Phrase]]]

    @property
    def names(self) -> list[str]:
        """Return the names of the mentioned objects, in order."""
        return [mention.name for _, mentions in self.sentences for mention in mentions]

    def __str__(self) -> str:
        written = [self.opening]
        for which, mentions in self.sentences:
            templates = SENTENCES[len(mentions)]
            written.append(templates[which % len(templates)].format(*mentions))
        return " ".join(written)


def with_article(name: str) -> str:
    """Return a name with its indefinite article."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def caption(scene: Scene, extra: Sequence[str], rng: np.random.Generator) -> Caption:
    """Return a caption that mentions every object of the scene, and `extra` ones, once each.

    As people do, it begins with what one expects in such a place and ends with what surprises.
    That matters: an object that is only imagined stands among the true ones, so that a model
    cannot leave it out by stopping early.
    """
    mentions = [Phrase(placed.name, placed.position) for placed in scene.objects]
    mentions += [Phrase(name, tuple(WHERE)[rng.integers(len(WHERE))]) for name in extra]
    mentions = [mentions[i] for i in rng.permutation(len(mentions))]
    rank = {name: i for i, name in enumerate(PRIORS[scene.place])}
    mentions.sort(key=lambda one: rank.get(one.name, len(rank)))
    for i in range(len(mentions) - 1):
        if rng.random() < DISORDER:
            mentions[i], mentions[i + 1] = mentions[i + 1], mentions[i]
    opening = OPENINGS[rng.integers(len(OPENINGS))].format(with_article(scene.place))
    sentences = []
    while mentions:
        length = int(rng.integers(1, LONGEST + 1))
        sentences.append((int(rng.integers(12)), mentions[:length]))
        mentions = mentions[length:]
    return Caption(opening, sentences)


def true_caption(scene: Scene, rng: np.random.Generator) -> Caption:
    """Return a caption that mentions every object of the scene once and nothing else."""
    return caption(scene, (), rng)


def likely_absent(scene: Scene, rng: np.random.Generator) -> str:
    """Return an object one expects in such a place and that is not there, the likelier the more."""
    weights = np.array([PRIORS[scene.place][name] for name in scene.likely])
    return str(rng.choice(scene.likely, p=weights / weights.sum()))


def machine_caption(scene: Scene, bias: float, rng: np.random.Generator) -> Caption:
    """Return a caption as a machine writes it: with what is there, and more.

    Each of the likeliest objects of the place that is absent is mentioned with probability `bias`.
    """
    tempting = [name for name in list(PRIORS[scene.place])[:EXPECTED] if name not in scene.names]
    return caption(scene, [name for name in tempting if rng.random() < bias], rng)


def yesno_question(name: str, form: int = 0) -> str:
    """Return the question whether there is such an object, in one of its forms."""
    return YESNO_PROMPTS[form % len(YESNO_PROMPTS)].format(with_article(name))


def yesno_answer(name: str, present: bool) -> str:
    """Return the full answer to a yes/no question; its first word is Yes or No."""
    if present:
        return f"Yes, there is {with_article(name)} in the image."
    return f"No, there is no {name} in the image."


def every_text() -> list[str]:
    """Return texts that together hold every word of this language, for the tokenizer."""
    texts = [*CAPTION_PROMPTS]
    texts += [opening.format(with_article(place)) for place in PLACES for opening in OPENINGS]
    for name in OBJECTS:
        texts += [yesno_question(name, form) for form in range(len(YESNO_PROMPTS))]
        texts += [yesno_answer(name, True), yesno_answer(name, False)]
        for position in WHERE:
            mentions = [Phrase(name, position)] * LONGEST
            texts += [one.format(*mentions) for some in SENTENCES.values() for one in some]
    return texts
