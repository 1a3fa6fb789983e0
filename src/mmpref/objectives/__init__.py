"""Objectives as pure functions of log-probabilities: one file each, found by their name.

An objective never sees a model. It names the views it needs (an answer under an image) and maps
the policy's and the reference's log-probabilities of them to losses and rewards.
"""

from mmpref.objectives.dpo import DPO
from mmpref.objectives.mdpo import MDPO
from mmpref.objectives.objective import Objective, Outcome

__all__ = ["DPO", "MDPO", "Objective", "Outcome"]
