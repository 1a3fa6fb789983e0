"""The public benchmarks by name: where their data are, and how their answers are written."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mmpref import downloads
from mmpref.benchmarks.amber import score as amber
from mmpref.benchmarks.chair import score as chair
from mmpref.benchmarks.gqa import score as gqa
from mmpref.benchmarks.llava_bench import score as llava_bench
from mmpref.benchmarks.mm_vet import score as mm_vet
from mmpref.benchmarks.mmhal import score as mmhal
from mmpref.benchmarks.object_halbench import score as object_halbench
from mmpref.benchmarks.pope import score as pope
from mmpref.benchmarks.vqa import score as vqa
from mmpref.errors import InputError
from mmpref.progress import say
from mmpref.randomness import generator
from mmpref.records.items import SETTINGS, Item
from mmpref.scoring.answers import AnswerFormat, read_answers


@dataclass(frozen=True)
class Benchmark:
    """A public benchmark.

    `items` reads its items from a folder laid out like the download `data` (names in
    `config/downloads.yaml`), `images` names the download with the image files. Where `subsets` is
    true, answers about some of the items are a benchmark of their own, as with CHAIR, whose items
    are whichever COCO images were described. `beside` names a download that is expected in the
    same folder as that of `data`. `nltk` says whether scoring takes NLTK's data.
    """

    data: str
    items: Callable[..., list[Item]]
    answers: AnswerFormat
    images: str
    subsets: bool = False
    beside: str | None = None
    nltk: bool = False


def read_answered(
    benchmark: Benchmark, folder: Path, answers: Path
) -> tuple[list[Item], list[dict[str, Any]]]:
    """Return a benchmark's items from its data folder, and the answers in a file as `read_answers`.

    Raises InputError when the folder is not the benchmark's, or the file has no such answers.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; give the folder with the data of the benchmark")
    if benchmark.subsets:
        given = read_answers(answers, official=benchmark.answers)
        return benchmark.items(folder, images={str(answer["id"]) for answer in given}), given
    items = benchmark.items(folder)
    given = read_answers(answers, items, benchmark.answers)
    if benchmark.data.startswith("pope") and {len(items), len(given)} == {2910, 3000}:
        raise InputError(
            f"{answers}: {len(given)} answers to {len(items)} questions: there are two versions of "
            "POPE's random questions about COCO, of 2,910 (LLaVA-1.5's) and 3,000 rows; score the "
            "answers as pope-coco-random-2910 or pope-coco-random, with the data of that version"
        )
    return items, given


def used_files(benchmark: Benchmark, folder: Path) -> dict[str, Any]:
    """Return the sums of a benchmark's files in a folder, and whether they are the pinned ones.

    Files that are not, or of which no sum is known, are named on standard error.
    """
    found = downloads.verify(folder, benchmark.data)
    for path, file in found.items():
        if not file["pinned"]:
            say(
                f"note: {folder / path} is not the pinned file of {benchmark.data}, or no sum of "
                f"it is known (sha256 {file['sha256']}): make sure of its version before you "
                "compare scores"
            )
    return found


def prepare(
    name: str, data: Path, images: Path, *, prompt: str, sample: int | None, seed: int
) -> list[Item]:
    """Return the items of a benchmark with their images, asked as `prompt` says.

    `prompt` has `{question}` where the benchmark's question goes. CHAIR's images are `sample` of
    COCO's val2014, drawn with the study's `seed`.

    Raises InputError when files are missing.
    """
    benchmark = BENCHMARKS[name]
    if sample is None:
        items = benchmark.items(data)
    else:
        known = chair.image_ids(data)
        if sample > len(known):
            raise InputError(f"{data}: has {len(known)} images, not {sample}; ask for less")
        places = generator(seed, "benchmark", "chair").permutation(len(known))[:sample]
        items = benchmark.items(data, images={known[place] for place in places})
    if not all(item.images for item in items):
        items = with_images(items, images)
    return [replace(item, prompt=prompt.replace("{question}", item.prompt)) for item in items]


def with_images(items: Sequence[Item], folder: Path) -> list[Item]:
    """Return the items with the paths of their images in `folder`.

    Raises InputError when an image is not there, with the number of those that are not.
    """
    files = {path.name: path for path in folder.rglob("*") if path.is_file()}
    missing = sorted({str(item.truth["image"]) for item in items} - files.keys())
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} images of the benchmark are not there "
            f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}); copy them there"
        )
    return [replace(item, images=(files[str(item.truth["image"])],)) for item in items]


def _by_image_and_question(items: Sequence[Item]) -> Callable[[dict[str, Any]], str | None]:
    """Return a function from a row of LLaVA's answers to TextVQA to the id of its question.

    In those rows `question_id` is the image, and a line of `prompt` is the question.
    """
    ids = {(Path(item.truth["image"]).stem, item.prompt.lower()): item.id for item in items}

    def find(row: dict[str, Any]) -> str | None:
        lines = str(row.get("prompt")).lower().replace(" short answer:", "").split("\n")
        questions = [re.sub(r"^question: *", "", line) for line in lines]
        image = str(row.get("question_id"))
        return next((ids[image, one] for one in questions if (image, one) in ids), None)

    return find


_LINES = AnswerFormat(("lines",), ("question_id",), ("answer", "text"))
_POPE = replace(_LINES, questions=True)
_AMBER = AnswerFormat(("array",), ("id",))
_VQA = AnswerFormat(("array",), ("question_id",), ("answer",))
_CAPTIONS = AnswerFormat(
    ("lines", "array", "mapping"),
    ("image_id", "image"),
    ("caption", "text", "answer"),
    chair.image_id,
)
_COCO = "coco-val2014"

BENCHMARKS: dict[str, Benchmark] = {
    "amber": Benchmark("amber", amber.items, _AMBER, "amber-images", nltk=True),
    **{
        f"amber-{part}": Benchmark(
            "amber", partial(amber.items, part=part), _AMBER, "amber-images", nltk=True
        )
        for part in ("generative", "discriminative", "existence", "attribute", "relation")
    },
    "chair": Benchmark("chair", chair.items, _CAPTIONS, _COCO, subsets=True, nltk=True),
    "gqa": Benchmark(
        "gqa",
        gqa.items,
        AnswerFormat(("array",), ("questionId",), ("prediction",)),
        "gqa-images",
    ),
    "llava-bench-coco": Benchmark(
        "llava-bench-coco", partial(llava_bench.items, version="coco"), _LINES, _COCO
    ),
    "llava-bench-in-the-wild": Benchmark(
        "llava-bench-in-the-wild",
        partial(llava_bench.items, version="in-the-wild"),
        _LINES,
        "llava-bench-in-the-wild",
    ),
    "mm-vet": Benchmark("mm-vet", mm_vet.items, AnswerFormat(("mapping",)), "mm-vet"),
    **{
        name: Benchmark(
            "mmhal",
            partial(mmhal.items, image_judge=name == "mmhal-v"),
            AnswerFormat(("array",), ("image_id",), ("model_answer",)),
            "mmhal-images",
        )
        for name in ("mmhal", "mmhal-v")
    },
    "object-halbench": Benchmark(
        "object-halbench",
        object_halbench.items,
        AnswerFormat(("lines",), ("image_id",), ("answer", "text"), chair.image_id),
        "object-halbench",
        beside="chair",
        nltk=True,
    ),
    **{
        f"pope-{source}": Benchmark("pope", partial(pope.items, source=source), _POPE, images)
        for source, images in (("coco", _COCO), ("aokvqa", _COCO), ("gqa", "gqa-images"))
    },
    **{
        f"pope-{source}-{setting}": Benchmark(
            "pope", partial(pope.items, source=source, settings=(setting,)), _POPE, images
        )
        for source, images in (("coco", _COCO), ("aokvqa", _COCO), ("gqa", "gqa-images"))
        for setting in SETTINGS
    },
    "pope-coco-random-2910": Benchmark(
        "pope-2910", partial(pope.items, settings=("random-2910",)), _POPE, _COCO
    ),
    "textvqa": Benchmark(
        "textvqa",
        partial(vqa.items, version="textvqa"),
        AnswerFormat(
            ("lines", "array"), ("question_id",), ("answer", "text"), find=_by_image_and_question
        ),
        "textvqa-images",
    ),
    "vqav2": Benchmark("vqav2", partial(vqa.items, version="vqav2"), _VQA, _COCO),
}
"""By name: what a study and `scripts/score.py` can ask for."""
