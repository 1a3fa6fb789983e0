"""What is known about a yes/no question."""

from typing import Any

from mmpref.records.items import SETTINGS


def problem(truth: dict[str, Any]) -> str | None:
    """Say why an answer cannot be held against `truth`; None when it can.

    Truth is `object` (a name), `label` (`yes` or `no`) and `setting` (`random`, `popular` or
    `adversarial`: how the absent objects were chosen).
    """
    if not isinstance(truth.get("object"), str):
        return "object is not an object name"
    if truth.get("label") not in ("yes", "no"):
        return f"label is {truth.get('label')!r}; write yes or no"
    if truth.get("setting") not in SETTINGS:
        return f"setting is {truth.get('setting')!r}; write one of {', '.join(SETTINGS)}"
    return None
