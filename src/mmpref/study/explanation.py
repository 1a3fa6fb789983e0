"""What is wrong with what somebody wrote, in words."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from mmpref.errors import InputError
from mmpref.study.parts import NAME, NAME_RULE, Part
from mmpref.study.registry import OneOf, tag_of


def read_yaml(path: str | Path) -> Any:
    """Return the content of a YAML file. Raises InputError when there is none."""
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is not YAML: {error}") from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `did you mean 'NAME'? ` where a known name is close."""
    return "".join(f"did you mean {close!r}? " for close in get_close_matches(name, list(known), 1))


def plain(error: Any) -> str:
    """Return `key: what is wrong (what was given)` for one of pydantic's errors."""
    given = "" if isinstance(error["input"], dict) else f" (given: {error['input']!r:.80})"
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}{given}"


def wrong(
    where: str | Path, error: ValidationError, explained: Callable[[Any], str] = plain
) -> InputError:
    """Return an error with a line for every mistake that pydantic found."""
    return InputError("\n".join(f"{where}: {explained(one)}" for one in error.errors()))


def explanation(study: type[Part], error: Any) -> str:
    """Return `key: what is wrong; what would be valid` for one of pydantic's errors in a study."""
    part, steps = _part_at(study, error["loc"])
    context = error.get("ctx", {})
    if steps[-1:] == ["[key]"]:
        del steps[-2:]
    if error["type"].startswith("union_tag"):
        steps.append(context["discriminator"].strip("'"))
    key = ".".join(steps)
    if context.get("pattern") == NAME:
        return f"{key}: {error['input']!r} is not a valid name: {NAME_RULE}"
    if error["type"] == "extra_forbidden":
        valid = list(part.model_fields) if part else []
        hint = did_you_mean(steps[-1], valid)
        return f"{key}: unknown key; {hint}valid here are: {', '.join(valid)}"
    if error["type"] == "value_error":
        # The study's own checks name their key themselves.
        return f"{key}: {context['error']}" if key else str(context["error"])
    if error["type"] == "union_tag_not_found":
        return f"{key}: is missing; it says which kind this is"
    if error["type"] == "union_tag_invalid":
        return f"{key}: unknown {context['tag']!r}; valid are: {context['expected_tags']}"
    return plain({**error, "loc": steps})


def _part_at(
    study: type[Part], location: tuple[str | int, ...]
) -> tuple[type[Part] | None, list[str]]:
    """Return the part that holds a place, and the place less pydantic's names of union members."""
    part: type[Part] | None = study
    holder, kinds, steps = part, list[type[Part]](), list[str]()
    for step in location:
        tagged = [kind for kind in kinds if step in (tag_of(kind, "source"), tag_of(kind, "name"))]
        if tagged:
            part, kinds = tagged[0], []
            continue
        steps.append(str(step))
        holder = part
        if part and step in part.model_fields:
            field = part.model_fields[str(step)]
            kinds = [kind for one in (field.annotation, *field.metadata) for kind in _parts_in(one)]
            part = kinds[0] if len(kinds) == 1 else None
    return holder, steps


def _parts_in(annotation: Any) -> list[type[Part]]:
    """Return the parts that a type may hold."""
    if isinstance(annotation, OneOf):
        return list(annotation.parts.values())
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return [annotation]
    return [part for inner in get_args(annotation) for part in _parts_in(inner)]
