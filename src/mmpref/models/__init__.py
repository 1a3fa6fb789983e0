from mmpref.models.family import Prompt
from mmpref.models.processor import Processor
from mmpref.models.vlm import VisionLanguageModel

__all__ = ["Processor", "Prompt", "VisionLanguageModel"]
