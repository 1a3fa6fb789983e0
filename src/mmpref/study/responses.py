"""How answers to benchmarks are made."""

from pydantic import Field

from mmpref.study.parts import Count, Part


class Responses(Part):
    """How answers to benchmarks are made: greedily, which no setting here changes."""

    shards: Count = Field(1, description="jobs the answers to a benchmark are split into")
    batch_size: Count = Field(32, description="answers made side by side")
