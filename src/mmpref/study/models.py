"""Where models come from."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mmpref.study.parts import Count, Part, Share

REPOSITORY = r"^[\w.-]+/[\w.-]+$"
COMMIT = r"^[0-9a-f]{40}$"
LLAVA_LIKE = ("llava",)
"""Values of `model_type` for which the LLaVA pattern holds as it is."""
BUNNY = "bunny-phi"
"""The `model_type` of Bunny's checkpoint, which is converted to a LLaVA."""


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
    repository: str = Field(pattern=REPOSITORY, description="OWNER/NAME")
    revision: str = Field(pattern=COMMIT, description="commit of the repository")
    family: Annotated[str, AfterValidator(_supported)] | None = Field(
        None,
        description="`model_type` of its config.json; without it an edit of any family's code "
        "counts as an edit of this model's",
    )
    parameters: Count | None = Field(
        None, description="how many it has, for memory and the plan before it is downloaded"
    )

    @property
    def folder(self) -> str:
        """Where it is downloaded to."""
        return f"resources/models/{self.repository}/{self.revision}"


class BunnyModel(Part):
    """Bunny-v1.0-3B, converted to a LLaVA: the same weights under other names."""

    source: Literal["bunny"]
    repository: str = Field("BAAI/Bunny-v1_0-3B", pattern=REPOSITORY, description="OWNER/NAME")
    revision: str = Field(
        "0958a104bd39a448fc310b3d1b1fc3d398dc3fcb",
        pattern=COMMIT,
        description="commit of the repository",
    )
    folder: str | None = Field(
        None, description="a copy of the repository; without it the files come from the hub"
    )

    @property
    def checkpoint(self) -> str:
        """Where the checkpoint lies, or is downloaded to."""
        return self.folder or f"resources/checkpoints/{self.repository}/{self.revision}"


Model = Annotated[
    ToyModel | AssembledModel | LocalModel | HubModel | BunnyModel, Field(discriminator="source")
]
