"""Objectives as pure functions of log-probabilities: one file each, found by their name."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Let `from mmpref.objectives import MDPO` find a class in whatever file it is.

    Imports at the top would make each objective part of what every other one depends on, and an
    edit of one would train the runs of all anew.
    """
    from mmpref.study.registry import modules

    for module in () if name.startswith("_") else modules(__name__):
        if name in vars(module):
            return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
