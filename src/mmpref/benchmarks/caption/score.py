"""Object hallucination in captions: CHAIR, Cover, Cog."""

from typing import Any

from mmpref.benchmarks.open.score import form
from mmpref.benchmarks.open.score import metrics as form_metrics
from mmpref.language.mentions import find_mentions
from mmpref.records.items import Item
from mmpref.scoring.metric import Metric, share
from mmpref.scoring.resources import Resources

_METRICS = {
    # AMBER's Hal (arXiv 2311.07397) is the same number under another name.
    "CHAIRs": share(
        "hallucinated_answers",
        "items",
        "lower",
        "share of answers that mention at least one object that is not in the image",
    ),
    "CHAIRi": share(
        "hallucinated",
        "mentions",
        "lower",
        "share of object mentions whose object is not in the image",
    ),
    "Cover": share(
        "covered",
        "objects",
        "higher",
        "share of the objects in the images that the answers mention",
    ),
    "Cog": share(
        "likely_mentioned",
        "likely",
        "lower",
        "share of the likely but absent objects that the answers mention",
    ),
}


def verdict(item: Item, response: str, resources: Resources) -> dict[str, Any]:
    """Return the counts of one caption, its mentions as `{name, start, end}`, and a note.

    An object is hallucinated when it is not among the item's `objects`. Repeated mentions count;
    those `covered` of `objects`, and `likely_mentioned` of `likely`, are distinct.
    """
    objects, likely = set(item.truth["objects"]), set(item.truth["likely"])
    mentions = find_mentions(response, tuple(item.truth["vocabulary"]))
    named = {mention.name for mention in mentions}
    hallucinated = [mention.span for mention in mentions if mention.name not in objects]
    return {
        **form(response),
        "hallucinated_answers": int(bool(hallucinated)),
        "hallucinated": len(hallucinated),
        "mentions": len(mentions),
        "covered": len(objects & named),
        "objects": len(objects),
        "likely_mentioned": len(likely & named),
        "likely": len(likely),
        "hallucinated_mentions": hallucinated,
        "grounded_mentions": [mention.span for mention in mentions if mention.name in objects],
        "flawed": bool(hallucinated),
        "note": "" if response.strip() else "no answer",
        "expected": f"In the image: {', '.join(item.truth['objects']) or 'no known object'}",
    }


def metrics(columns: set[str]) -> dict[str, Metric]:
    """Return the metrics by name, those of the answers' form included.

    CHAIRs and CHAIRi are those of Rohrbach et al. 2018 (arXiv 1809.02156), with empty captions in
    the denominator of CHAIRs; Cover and Cog those of AMBER (arXiv 2311.07397), summed over items.
    """
    return _METRICS | form_metrics(columns)
