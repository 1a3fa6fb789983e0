"""SmolVLM2 (arXiv 2504.05299): Idefics3 with another processor."""

from transformers import Idefics3Processor

from mmpref.models.families.idefics3 import Idefics3


class SmolVLM(Idefics3):
    """Its images are encoded as Idefics3's.

    Its own processor does the same, but does not load without num2words and torchvision, which it
    needs for videos only.
    """

    processor_class = Idefics3Processor
