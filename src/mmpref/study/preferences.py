"""The pairs that runs train on."""

from typing import Any

from pydantic import Field, model_validator

from mmpref.study.parts import Count, Name, Part, Share

MPNET = (
    "resources/models/sentence-transformers/all-mpnet-base-v2"
    "/e8c3b32edf5434bc2275fc9bab85f82640a19130"
)
"""Where the rule `hub_model` puts the encoder of the paper, at this commit."""


class Bdhs(Part):
    """Bias-driven hallucination sampling of rejected answers.

    The attention variant hides image tokens (`mask_ratio`), the noise variant diffuses the pixels
    (`noise_step`).
    """

    model: Name = Field(description="the model that samples, a name under `models`")
    mask_ratio: Share = Field(
        0.99, description="share of image tokens hidden (rho_th); 0 where there is a `noise_step`"
    )
    noise_step: int | None = Field(
        None,
        ge=1,
        le=999,
        description="diffusion step, of 1000, of the model's pixels (N_noise; paper: 500)",
    )
    iterations: Count = Field(5, description="tries, the last one without guidance (N_BDHS)")
    encoder: str = Field(
        "minilm",
        description="similarity: `exact`, `minilm`, `mpnet` (the paper's, from the hub), or the "
        "folder of a sentence encoder",
    )
    similarity_threshold: float = Field(
        0.97, ge=-1, le=1, description="an answer less similar than this is accepted (eps_s)"
    )
    temperature: float = Field(1.0, ge=0, description="0 is greedy")
    top_p: Share = Field(1.0, gt=0, description="nucleus of the sampled tokens")
    max_new_tokens: Count = Field(64, description="limit of a completed sentence, in tokens")
    shards: Count = Field(1, description="jobs the sampling is split into")
    batch_size: Count = Field(16, description="answers sampled at the same time")

    @model_validator(mode="before")
    @classmethod
    def _one_variant(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("noise_step") is None:
            return data
        if data.get("mask_ratio", 0) != 0:
            raise ValueError(
                "mask_ratio and noise_step are two variants; leave one of them out (with noise, "
                "all image tokens are seen)"
            )
        return {"mask_ratio": 0.0, **data}


class Distortion(Part):
    """POVID-style distortion: the tokens that a model expects under a noisy image."""

    model: Name = Field(description="the model that reads the answers, a name under `models`")
    noise_step: int = Field(
        500, ge=1, le=999, description="diffusion step, of 1000, of the model's pixels"
    )
    encoder: str = Field(
        "minilm",
        description="similarity, which is only shown: `exact`, `minilm`, `mpnet`, or the folder of "
        "a sentence encoder",
    )
    shards: Count = Field(1, description="jobs the reading is split into")
    batch_size: Count = Field(16, description="answers read at the same time")


SAMPLERS = ("bdhs", "distortion")
"""What makes rejected answers: settings of `Preferences`, and modules of `mmpref.sampling`."""


class Preferences(Part):
    """The pairs a run trains on: a dataset's own, or with rejected answers sampled anew."""

    dataset: Name = Field(description="a name under `datasets`")
    bdhs: Bdhs | None = Field(None, description="sample the rejected answers")
    distortion: Distortion | None = Field(
        None, description="or take them from the model's reading of a noisy image"
    )

    @property
    def sampler(self) -> Bdhs | Distortion | None:
        """What makes the rejected answers, if they are not the dataset's own."""
        return self.bdhs or self.distortion

    @property
    def sampler_name(self) -> str | None:
        """What the study calls it, and its module in `mmpref.sampling`."""
        return next((name for name in SAMPLERS if getattr(self, name)), None)

    @property
    def encoder_folder(self) -> str | None:
        """The folder of the sampler's sentence encoder; None for one that is built in."""
        if self.sampler is None:
            return None
        folders = {"exact": None, "minilm": None, "mpnet": MPNET}
        return folders.get(self.sampler.encoder, self.sampler.encoder)

    @model_validator(mode="after")
    def _one_sampler(self) -> "Preferences":
        if self.bdhs and self.distortion:
            raise ValueError(
                "bdhs and distortion both make the rejected answers; give each its own entry under "
                "`preferences`"
            )
        return self
