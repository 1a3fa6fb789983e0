"""What tables and report show."""

from typing import Annotated

from pydantic import Field

from mmpref.study.parts import Name, Part


class Table(Part):
    """Which metrics the main table and the report show, and against which run."""

    base: Name | None = Field(
        None,
        description="the run that all others are compared with; default: of each model the run "
        "without an objective",
    )
    metrics: dict[Name, list[str]] = Field(
        default_factory=dict, description="metrics by benchmark; default: all"
    )


class Report(Part):
    """How the report looks."""

    title: str | None = None
    colours: dict[Name, Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]] = Field(
        default_factory=dict, description="colour of a run, for example {mdpo: '#0072b2'}"
    )
    labels: dict[Name, str] = Field(
        default_factory=dict, description="what a run is called, for example {mdpo: mDPO}"
    )
    gallery: int = Field(36, ge=0, description="items in the gallery")
    failures: int = Field(100, ge=0, description="flawed answers listed for each run and benchmark")
