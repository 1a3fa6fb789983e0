"""What a cluster calls its account, partitions and GPUs: `slurm/site.yaml`."""

from functools import partial
from pathlib import Path

from pydantic import ValidationError

from mmpref.errors import InputError
from mmpref.study.explanation import explanation, read_yaml, wrong
from mmpref.study.parts import Part

PLACEHOLDER = "FILL-IN"
"""What the file has in a clone where a site's own name belongs."""


class Site(Part):
    """A cluster, as a user describes it; the comments are in the file."""

    account: str
    cpu_partition: str
    gpu_partition: str
    qos: str | None = None
    gpu_type: str | None = None
    sbatch: str | None = None

    def unfilled(self) -> list[str]:
        """Return the keys that still have the placeholder."""
        return [name for name, value in self if value == PLACEHOLDER]

    def resources(self, on_gpus: bool) -> dict[str, str | None]:
        """Return what a job asks for, under the names that Snakemake's SLURM plugin knows."""
        return {
            "slurm_account": self.account,
            "slurm_partition": self.gpu_partition if on_gpus else self.cpu_partition,
            "qos": self.qos,
            "slurm_extra": self.sbatch,
        }


def load(path: Path) -> Site:
    """Read the file of a site.

    Raises InputError with a line for every mistake: an unknown key, a missing or a wrong value.
    """
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: has no keys; needed are {', '.join(Site.model_fields)}")
    try:
        return Site.model_validate(data)
    except ValidationError as error:
        raise wrong(path, error, partial(explanation, Site)) from None
