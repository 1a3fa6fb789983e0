"""What all parts of a study have in common."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

NAME = r"^[a-z0-9][a-z0-9_-]*$"
NAME_RULE = "lower-case letters, digits, - and _ (it becomes part of file names)"
Name = Annotated[str, Field(pattern=NAME)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Part(BaseModel):
    """A part of a study: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


DegradedImage = Literal[
    "crop_0_20", "crop_20_50", "other_image", "moco_v2", "black", "diffusion_500", "none"
]
