from mmpref.models.family import Prompt
from mmpref.models.vlm import Processor, VisionLanguageModel

__all__ = ["Processor", "Prompt", "VisionLanguageModel"]
