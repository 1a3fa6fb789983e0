"""Where models come from."""

from typing import Annotated, Literal

from pydantic import Field

from mmpref.study.parts import Count, Part, Share


class ToyModel(Part):
    """The built-in model: pretrained by the workflow on the toy world's captions and questions."""

    source: Literal["toyworld"]
    scenes: Count = Field(6000, description="scenes to pretrain on")
    vision_steps: Count = Field(700, description="optimiser steps of the vision tower")
    steps: Count = Field(700, description="optimiser steps of projector and language model")
    biased_captions: Share = Field(
        0.6, description="how often a caption mentions one of the likeliest objects that are absent"
    )


class AssembledModel(Part):
    """A LLaVA put together from a language model in GGUF and a new, untrained vision tower."""

    source: Literal["assembled"]
    package: str = Field(description="installed Python package that carries the GGUF file")
    file: str = Field(description="the GGUF file inside the package")


class LocalModel(Part):
    """A model folder of one's own, in the format of transformers (safetensors)."""

    source: Literal["local"]
    folder: str = Field(description="folder with config.json, weights and processor")


Model = Annotated[ToyModel | AssembledModel | LocalModel, Field(discriminator="source")]
