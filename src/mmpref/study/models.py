"""Where models come from."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mmpref.study.parts import Count, Part, Share

LLAVA_LIKE = ("llava",)
"""Values of `model_type` for which the LLaVA pattern holds as it is."""


def families() -> dict[str, Path | None]:
    """Return the file of every supported family of models, by `model_type`; None is LLaVA-like."""
    folder = Path(__file__).parents[1] / "models" / "families"
    files = {path.stem: path for path in sorted(folder.glob("[!_]*.py"))}
    return dict.fromkeys(LLAVA_LIKE) | files


def _supported(family: str) -> str:
    if family not in families():
        raise ValueError(f"{family!r} is not supported; supported are {', '.join(families())}")
    return family


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


class HubModel(Part):
    """A model of the hub at a pinned revision; studies that name the same share the download."""

    source: Literal["hub"]
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="OWNER/NAME")
    revision: str = Field(pattern=r"^[0-9a-f]{40}$", description="commit of the repository")
    family: Annotated[str, AfterValidator(_supported)] | None = Field(
        None,
        description="`model_type` of its config.json; without it an edit of any family's code "
        "counts as an edit of this model's",
    )

    @property
    def folder(self) -> str:
        """Where it is downloaded to."""
        return f"resources/models/{self.repository}/{self.revision}"


Model = Annotated[ToyModel | AssembledModel | LocalModel | HubModel, Field(discriminator="source")]
