"""What is known about an image that is to be described."""

from typing import Any


def problem(truth: dict[str, Any]) -> str | None:
    """Say why a caption cannot be held against `truth`; None when it can.

    Truth is lists of names: `objects` of what is in the image, `likely` of what is not but might
    well be, and `vocabulary` of everything that counts as a mention.
    """
    for field in ("objects", "likely", "vocabulary"):
        names = truth.get(field)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return f"{field} is not a list of object names"
    unknown = sorted({*truth["objects"], *truth["likely"]} - set(truth["vocabulary"]))
    if unknown:
        return f"{', '.join(unknown)} not in vocabulary; add the names there"
    both = sorted(set(truth["objects"]) & set(truth["likely"]))
    if both:
        return f"{', '.join(both)} both in objects and in likely (absent); leave one"
    return None
