"""What is wrong with a study, in words."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from mmpref.study.parts import NAME_RULE, Part
from mmpref.study.registry import OneOf, tag_of


def explanation(study: type[Part], error: Any) -> str:
    """Return `key: what is wrong; what would be valid` for one of pydantic's errors."""
    part, steps = _part_at(study, error["loc"])
    if steps and steps[-1] == "[key]":
        return f"{'.'.join(steps[:-2])}: {error['input']!r} is not a valid name: {NAME_RULE}"
    key = ".".join(steps) or "study"
    if error["type"] == "extra_forbidden":
        valid = list(part.model_fields) if part else []
        hint = get_close_matches(steps[-1], valid, 1)
        suggestion = f"did you mean {hint[0]!r}? " if hint else ""
        return f"{key}: unknown key; {suggestion}valid here are: {', '.join(valid)}"
    if error["type"] == "value_error":
        message = str(error["ctx"]["error"])
        # The study's own checks name their key themselves.
        return message if key == "study" else f"{key}: {message}"
    if error["type"] == "union_tag_not_found":
        key = f"{key}.{error['ctx']['discriminator'].strip(chr(39))}"
        return f"{key}: is missing; it says which kind this is"
    if error["type"] == "union_tag_invalid":
        context = error["ctx"]
        key = f"{key}.{context['discriminator'].strip(chr(39))}"
        return f"{key}: unknown {context['tag']!r}; valid are: {context['expected_tags']}"
    given = error.get("input")
    shown = "" if error["type"] == "missing" else f" (given: {given!r:.80})"
    return f"{key}: {error['msg']}{shown}"


def _part_at(
    study: type[Part], location: tuple[str | int, ...]
) -> tuple[type[Part] | None, list[str]]:
    """Return the part that holds a place, and the place less pydantic's names of union members."""
    part: type[Part] | None = study
    holder: type[Part] | None = study
    kinds: list[type[Part]] = []
    steps: list[str] = []
    for step in location:
        tagged = [kind for kind in kinds if step in (tag_of(kind, "source"), tag_of(kind, "name"))]
        if tagged:
            part, kinds = tagged[0], []
            continue
        steps.append(str(step))
        holder = part
        if part is not None and step in part.model_fields:
            field = part.model_fields[str(step)]
            kinds = _parts_in(field.annotation, field.metadata)
            part = kinds[0] if len(kinds) == 1 else None
    return holder, steps


def _parts_in(annotation: Any, metadata: Sequence[Any] = ()) -> list[type[Part]]:
    """Return the parts that a field may hold."""
    of_registry = [one for one in metadata if isinstance(one, OneOf)]
    if of_registry:
        return list(of_registry[0].parts.values())
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return [annotation]
    inner = getattr(annotation, "__metadata__", ())
    arguments = getattr(annotation, "__args__", ())
    return [part for argument in arguments for part in _parts_in(argument, inner)]
