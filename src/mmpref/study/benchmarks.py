"""What runs are scored on, and the judges."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mmpref.study.parts import Count, Name, Part, Positive

BenchmarkName = Literal[
    "amber",
    "amber-generative",
    "amber-discriminative",
    "amber-existence",
    "amber-attribute",
    "amber-relation",
    "chair",
    "gqa",
    "llava-bench-coco",
    "llava-bench-in-the-wild",
    "mm-vet",
    "mmhal",
    "mmhal-v",
    "object-halbench",
    "pope-coco",
    "pope-coco-random",
    "pope-coco-popular",
    "pope-coco-adversarial",
    "pope-coco-random-2910",
    "pope-aokvqa",
    "pope-aokvqa-random",
    "pope-aokvqa-popular",
    "pope-aokvqa-adversarial",
    "pope-gqa",
    "pope-gqa-random",
    "pope-gqa-popular",
    "pope-gqa-adversarial",
    "textvqa",
    "vqav2",
]
# Judged by a model always; Object HalBench has rules to do without.
JUDGED = ("llava-bench-coco", "llava-bench-in-the-wild", "mm-vet", "mmhal", "mmhal-v")


class ToyCaptions(Part):
    """Captions of new toy scenes: CHAIR, Cover, hallucination rate, length."""

    source: Literal["toyworld-captions"]
    split: Literal["validation", "test"] = "test"
    items: Count = 300
    max_new_tokens: Count = 80


class ToyYesno(Part):
    """POPE-style questions about new toy scenes: random, popular, adversarial."""

    source: Literal["toyworld-yesno"]
    split: Literal["validation", "test"] = "test"
    items: Count = Field(100, description="questions per setting")
    max_new_tokens: Count = 16


class DatasetPrompts(Part):
    """The prompts of a dataset, answered and shown, without a ground truth."""

    source: Literal["dataset"]
    dataset: Name = Field(description="a name under `datasets`")
    max_new_tokens: Count = 80


class Judge(Part):
    """A judge model behind an OpenAI-compatible endpoint; where it is, the environment says.

    A local server of the same API (vLLM, llama.cpp, Ollama) is a free one: `key_variable: null`.
    """

    model: str = Field(description="the model to ask for; a reply of another one is an error")
    returns: list[str] = Field(
        default_factory=list, description="other names under which it may answer"
    )
    url_variable: str = Field("OPENAI_BASE_URL", description="environment variable of the base URL")
    key_variable: str | None = Field(
        "OPENAI_API_KEY", description="environment variable of the key; null: it needs none"
    )
    concurrency: Count = Field(4, description="calls at the same time")
    retries: int = Field(6, ge=0, description="of a failed call, with back-off")
    timeout: Positive = Field(120.0, description="seconds a call may take")
    input_price: float | None = Field(None, ge=0, description="of a million prompt tokens")
    output_price: float | None = Field(None, ge=0, description="of a million completion tokens")


class PublicBenchmark(Part):
    """A benchmark of the papers: downloaded, or in a folder of one's own."""

    source: Literal["public"]
    benchmark: BenchmarkName
    data: str | None = Field(None, description="folder with its files; default: download them")
    images: str | None = Field(None, description="folder with its images; default: download them")
    items: Count | None = Field(
        None, description="`chair` only: that many COCO val2014 images, drawn with the study's seed"
    )
    prompt: str = Field(
        "{question}", description="what the model is asked, around the benchmark's question"
    )
    similarity: Literal["exact", "embeddings", "spacy"] = Field(
        "exact", description="AMBER only: when a noun counts as another one (above 0.8)"
    )
    judge: Name | None = Field(None, description="a name under `judges`")
    judge_runs: Count = Field(1, description="how often each answer is judged (MM-Vet: 5)")
    max_new_tokens: Count = 512

    @model_validator(mode="after")
    def _whole(self) -> "PublicBenchmark":
        if self.benchmark in JUDGED and not self.judge:
            raise ValueError(
                f"{self.benchmark} is scored by a judge model; give `judge`, a name under `judges`"
            )
        if self.judge and self.benchmark not in (*JUDGED, "object-halbench"):
            raise ValueError(f"{self.benchmark} is scored without a judge; leave `judge` out")
        if (self.items is None) == (self.benchmark == "chair"):
            raise ValueError("`items` is given for `chair` (500 in most papers), and only there")
        if "{question}" not in self.prompt:
            raise ValueError("`prompt` lacks {question}, the place of the benchmark's question")
        return self


Benchmark = Annotated[
    ToyCaptions | ToyYesno | DatasetPrompts | PublicBenchmark, Field(discriminator="source")
]
