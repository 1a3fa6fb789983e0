"""The pairs that runs train on."""

from pydantic import Field

from mmpref.study.parts import Count, Name, Part, Share

MPNET = (
    "resources/models/sentence-transformers/all-mpnet-base-v2"
    "/e8c3b32edf5434bc2275fc9bab85f82640a19130"
)
"""Where the rule `hub_model` puts the encoder of the paper, at this commit."""


class Bdhs(Part):
    """Bias-driven hallucination sampling of rejected answers (attention variant)."""

    model: Name = Field(description="the model that samples, a name under `models`")
    mask_ratio: Share = Field(0.99, description="share of image tokens hidden (rho_th)")
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

    @property
    def encoder_folder(self) -> str | None:
        """The folder of the sentence encoder; None for one that is built in."""
        folders = {"exact": None, "minilm": None, "mpnet": MPNET}
        return folders.get(self.encoder, self.encoder)


class Preferences(Part):
    """The pairs a run trains on: a dataset's own, or with rejected answers sampled anew."""

    dataset: Name = Field(description="a name under `datasets`")
    bdhs: Bdhs | None = Field(None, description="sample the rejected answers")
