"""What every source of preference pairs is."""

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from mmpref.files import MANIFEST, replacing
from mmpref.study.parts import Count, Part

if TYPE_CHECKING:
    from mmpref.records.rows import Candidate, Quarantined, Skipped

ABOUT = "dataset.json"


class Dataset(Part):
    """A source of pairs with its settings, which are its fields; `source` is what a study calls it.

    Adding one is a file in this folder: a class with a `source` of its own.
    """

    subset: Count | None = Field(
        None, description="how many pairs to draw of all, by the study's seed and their ids"
    )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The files and folders it reads, for the workflow to make and to watch."""
        return ()

    @abstractmethod
    def rows(
        self, seed: int, require_rejected: bool
    ) -> "Iterator[Candidate | Quarantined | Skipped]":
        """Yield its rows, unchecked, in order.

        `seed` is the study's. Without `require_rejected` rows may lack the rejected answer, for a
        sampler to draw it. Raises InputError when a file is missing or cannot be read.
        """

    @property
    def origins(self) -> list[dict[str, str | None]]:
        """What is known of each of `inputs`: `source`, `revision` and `licence`.

        It comes from the manifest that a download leaves in its folder.
        """
        return [_origin(place) for place in self.inputs]

    def write(self, path: str | Path, seed: int, require_rejected: bool = True) -> dict[str, Any]:
        """Write the pairs to `path`, with `quarantine.jsonl` and `dataset.json` beside it.

        Returns what stands in `dataset.json`: `dataset`; `origins`; how many `pairs` and
        `quarantined` rows there are; `skipped`, how many rows were left out on purpose, by reason;
        and of a subset its `size`, `seed` and `ids`.

        Raises InputError when the source cannot be read, or has too few pairs.
        """
        from mmpref.records.pairs import Pairs, write_valid_pairs
        from mmpref.records.rows import Skipped
        from mmpref.records.subset import drawn

        path = Path(path)
        skipped: Counter[str] = Counter()

        def rows() -> "Iterator[Candidate | Quarantined]":
            skipped.clear()
            for row in self.rows(seed, require_rejected):
                if isinstance(row, Skipped):
                    skipped[row.reason] += 1
                else:
                    yield row

        chosen = drawn(rows, self.subset, seed, require_rejected) if self.subset else rows()
        kept, quarantined = write_valid_pairs(path, chosen, require_rejected)
        about: dict[str, Any] = {
            "dataset": getattr(self, "source", None),
            "origins": self.origins,
            "pairs": kept,
            "quarantined": quarantined,
            "skipped": dict(sorted(skipped.items())),
        }
        if self.subset:
            ids = sorted(Pairs(path, require_rejected).ids)
            about["subset"] = {"size": self.subset, "seed": seed, "ids": ids}
        with replacing(path.with_name(ABOUT)) as temporary:
            text = json.dumps(about, indent=1, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        return about


def _origin(place: str) -> dict[str, str | None]:
    try:
        manifest = json.loads(Path(place, MANIFEST).read_bytes())
    except (OSError, ValueError):
        manifest = {}
    if not isinstance(manifest, dict):
        manifest = {}
    return {
        "source": manifest.get("source") or manifest.get("repository") or place,
        "revision": manifest.get("revision"),
        "licence": manifest.get("licence"),
    }
