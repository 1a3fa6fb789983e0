"""What is known about a yes/no question."""

from typing import Any

from mmpref.records.items import SETTINGS


def problem(truth: dict[str, Any]) -> str | None:
    """Say why an answer cannot be held against `truth`; None when it can.

    Truth is `label` (`yes` or `no`) and, of questions asked as POPE asks them, `object` (a name)
    and `setting` (`random`, `popular` or `adversarial`: how the absent objects were chosen).
    """
    if not isinstance(truth.get("object", ""), str):
        return "object is not an object name"
    if truth.get("label") not in ("yes", "no"):
        return f"label is {truth.get('label')!r}; write yes or no"
    if "setting" in truth and truth["setting"] not in SETTINGS:
        return f"setting is {truth['setting']!r}; write one of {', '.join(SETTINGS)}"
    return None
