from mmpref.models.family import Prompt
from mmpref.models.vlm import ControlToken, Processor, VisionLanguageModel

__all__ = ["ControlToken", "Processor", "Prompt", "VisionLanguageModel"]
