from mmpref.models.vlm import Prompt, VisionLanguageModel

__all__ = ["Prompt", "VisionLanguageModel"]
