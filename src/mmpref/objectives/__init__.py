"""Objectives as pure functions of log-probabilities.

An objective never sees a model. It names the views it needs (an answer under an image) and maps
the policy's and the reference's log-probabilities of them to losses and rewards. This package
imports torch and nothing of ours.
"""

from mmpref.objectives.dpo import DPO
from mmpref.objectives.mdpo import MDPO
from mmpref.objectives.outcome import LogProbabilities, Outcome

Objective = DPO | MDPO

__all__ = ["DPO", "MDPO", "LogProbabilities", "Objective", "Outcome"]
