"""What is said about a scene: captions, true or with an object too many, and yes/no questions."""

from collections.abc import Sequence

import numpy as np

from mmpref.toyworld.scenes import PRIORS, Scene

CAPTION_PROMPTS = ("Describe the image.", "What can you see in this image?")
YESNO_PROMPTS = ("Is there {} in the image?", "Can you see {} in the image?")

OPENINGS = ("This is {}.", "The image shows {}.", "This is a photo of {}.")
# Sentences about one, two and three objects. {0} stands for "a cup", {0:A} for "A cup", and
# {0:where} for "on the left".
SENTENCES: dict[int, tuple[str, ...]] = {
    1: (
        "There is {0}.",
        "{0:A} is {0:where}.",
        "There is {0} {0:where}.",
        "One can also see {0}.",
    ),
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

AT_THE_END = 0.8
"""How often a captioner who adds an object does so after all the others."""


class Mention:
    """An object as a caption mentions it."""

    def __init__(self, name: str, position: str) -> None:
        self.name, self.position = name, position

    def __format__(self, form: str) -> str:
        match form:
            case "where":
                return WHERE[self.position]
            case "A":
                return with_article(self.name).capitalize()
            case _:
                return with_article(self.name)


class Caption:
    """A caption before it is written out: an opening, then sentences of one to three mentions.

    Each sentence is (which of the templates for its length, its mentions).
    """

    def __init__(self, opening: str, sentences: list[tuple[int, list[Mention]]]) -> None:
        self.opening, self.sentences = opening, sentences

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


def true_caption(scene: Scene, rng: np.random.Generator) -> Caption:
    """Return a caption that mentions every object of the scene once and nothing else."""
    mentions = [Mention(placed.name, placed.position) for placed in scene.objects]
    mentions = [mentions[i] for i in rng.permutation(len(mentions))]
    opening = OPENINGS[rng.integers(len(OPENINGS))].format(with_article(scene.place))
    sentences = []
    while mentions:
        length = int(rng.integers(1, LONGEST + 1))
        sentences.append((int(rng.integers(12)), mentions[:length]))
        mentions = mentions[length:]
    return Caption(opening, sentences)


def with_extra(caption: Caption, name: str, rng: np.random.Generator) -> Caption:
    """Return the caption with one more mention, at the end or anywhere a mention may stand."""
    extra = Mention(name, tuple(WHERE)[rng.integers(len(WHERE))])
    sentences = [(which, list(mentions)) for which, mentions in caption.sentences]
    alone = (int(rng.integers(12)), [extra])
    if rng.random() < AT_THE_END:
        if rng.random() < 0.5 and len(sentences[-1][1]) < LONGEST:
            sentences[-1][1].append(extra)
        else:
            sentences.append(alone)
    elif rng.random() < 0.5:
        sentences.insert(int(rng.integers(len(sentences) + 1)), alone)
    else:
        at = int(rng.integers(len(sentences)))
        mentions = sentences[at][1]
        mentions.insert(int(rng.integers(len(mentions) + 1)), extra)
        if len(mentions) > LONGEST:
            sentences.insert(at + 1, (alone[0], [mentions.pop()]))
    return Caption(caption.opening, sentences)


def likely_absent(scene: Scene, rng: np.random.Generator) -> str:
    """Return an object one expects in such a place and that is not there, the likelier the more."""
    weights = np.array([PRIORS[scene.place][name] for name in scene.likely])
    return str(rng.choice(scene.likely, p=weights / weights.sum()))


def machine_caption(scene: Scene, bias: float, rng: np.random.Generator) -> Caption:
    """Return a caption as a machine writes it.

    With probability `bias` it mentions one likely but absent object besides what is there.
    """
    caption = true_caption(scene, rng)
    if rng.random() < bias:
        caption = with_extra(caption, likely_absent(scene, rng), rng)
    return caption


def yesno_question(name: str, form: int = 0) -> str:
    """Return the question whether there is such an object, in one of its forms."""
    return YESNO_PROMPTS[form % len(YESNO_PROMPTS)].format(with_article(name))


def yesno_answer(name: str, present: bool) -> str:
    """Return the full answer to a yes/no question; its first word is Yes or No."""
    if present:
        return f"Yes, there is {with_article(name)} in the image."
    return f"No, there is no {name} in the image."


def every_text() -> Sequence[str]:
    """Return texts that together hold every word of this language, for the tokenizer."""
    texts = [*CAPTION_PROMPTS]
    for place, prior in PRIORS.items():
        texts += [opening.format(with_article(place)) for opening in OPENINGS]
        for name in prior:
            texts += [yesno_question(name, form) for form in range(len(YESNO_PROMPTS))]
            texts += [yesno_answer(name, True), yesno_answer(name, False)]
            for position in WHERE:
                one = Mention(name, position)
                for length, templates in SENTENCES.items():
                    texts += [template.format(*[one] * length) for template in templates]
    return texts
