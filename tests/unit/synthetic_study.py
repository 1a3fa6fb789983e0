"""Results of a study that never ran, in the formats of real ones, for the tests of the report."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mmpref.records.items import Item, write_items
from mmpref.records.pairs import write_pairs
from mmpref.records.rows import Pair
from mmpref.reporting.tables import ScoreFile
from mmpref.scoring.verdicts import score, write_scores

COLOURS = {
    "red apple": "#d23",
    "plate": "#888",
    "cup": "#26c",
    "fork": "#c80",
    "dog": "#852",
    "lamp": "#dc2",
    "sofa": "#283",
    "book": "#92a",
}
VOCABULARY = [*COLOURS]
# How often each run mentions an object that is there, and one that is only likely.
RUNS = {"base": (0.85, 0.5), "dpo": (0.78, 0.3), "mdpo": (0.82, 0.15)}
BASES = {"dpo": "base", "mdpo": "base"}
SEEDS = {"base": [0], "dpo": [0, 1, 2], "mdpo": [0, 1, 2]}
NASTY = '<script>document.title="owned"</script> & <b>bold</b>'


@dataclass
class SyntheticStudy:
    """Where its files are."""

    items: dict[str, Path]
    scores: list[ScoreFile]
    metrics: dict[str, list[Path]]
    statistics: Path
    pairs: Path


def scene(draw: np.random.Generator, objects: list[str], size: int = 72) -> bytes:
    """A picture with a coloured shape for each object."""
    image = Image.new("RGB", (size, size), (238, 234, 226))
    pen = ImageDraw.Draw(image)
    for name in objects:
        x, y = draw.integers(0, size * 3 // 4, 2)
        shape = pen.ellipse if len(name) % 2 else pen.rectangle
        shape((x, y, x + size // 5, y + size // 5), fill=COLOURS[name])
    return encoded(image)


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def caption_items(count: int) -> list[Item]:
    draw = np.random.default_rng(0)
    items = []
    for number in range(count):
        names = [str(name) for name in draw.permutation(VOCABULARY)]
        objects, likely = sorted(names[:3]), sorted(names[3:5])
        truth = {"kind": "caption", "objects": objects, "likely": likely, "vocabulary": VOCABULARY}
        items.append(Item(f"c{number}", (scene(draw, objects),), "Describe the image.", truth))
    return items


def yesno_items(count: int) -> list[Item]:
    draw = np.random.default_rng(1)
    items = []
    for number in range(count):
        objects = [str(name) for name in draw.permutation(VOCABULARY)[:3]]
        image = scene(draw, objects)
        for setting in ("random", "popular", "adversarial"):
            asked = str(draw.choice(VOCABULARY))
            label = "yes" if asked in objects else "no"
            truth = {"kind": "yesno", "object": asked, "label": label, "setting": setting}
            question = f"Is there a {asked} in the image?"
            items.append(Item(f"q{number}-{setting}", (image,), question, truth))
    return items


def open_items(count: int) -> list[Item]:
    """Photographs, of which nothing is known."""
    draw = np.random.default_rng(2)
    items = []
    for number in range(count):
        coarse = draw.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        photo = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
        items.append(Item(f"photo {number}", (encoded(photo),), "What is this?", {"kind": "open"}))
    return items


def answer(item: Item, run: str, draw: np.random.Generator) -> str:
    """What a model that is good at seeing or not would say."""
    seen, guessed = RUNS[run]
    if item.truth["kind"] == "open":
        return f"A photograph, says {run}. {NASTY}"
    if item.truth["kind"] == "yesno":
        if draw.random() < 0.04:
            return "I cannot tell."
        right = draw.random() < 1 - guessed / 2
        return "Yes." if right == (item.truth["label"] == "yes") else "No, there is none."
    named = [name for name in item.truth["objects"] if draw.random() < seen]
    named += [name for name in item.truth["likely"] if draw.random() < guessed]
    if not named:
        return ""
    return f"The image shows {', '.join(f'a {name}' for name in named)} in a quiet room."


def training_metrics(run: str, seed: int, steps: int = 120) -> list[dict[str, float]]:
    draw = np.random.default_rng([seed, len(run)])
    speed = 0.02 if run == "dpo" else 0.03
    return [
        {
            "step": step,
            "loss": 0.69 * np.exp(-speed * step) + 0.05 * draw.random(),
            "rewards/margin": 3 * (1 - np.exp(-speed * step)) + 0.3 * draw.normal(),
            "rewards/accuracy": min(1, 0.5 + speed * step / 2 + 0.05 * draw.normal()),
            "logps/chosen": -40 - 0.02 * step + draw.normal(),
            "logps/rejected": -45 - 0.2 * step + draw.normal(),
        }
        for step in range(1, steps + 1)
    ]


def write_study(folder: Path, count: int = 60) -> SyntheticStudy:
    """Write a study with captions, yes/no questions and photographs into `folder`."""
    benchmarks = {
        "captions": caption_items(count),
        "yesno": yesno_items(count // 2),
        "photos": open_items(4),
    }
    items, scores = {}, []
    for benchmark, content in benchmarks.items():
        items[benchmark] = folder / "resources" / benchmark / "items.parquet"
        write_items(items[benchmark], content)
        for run, seeds in SEEDS.items():
            for seed in seeds:
                draw = np.random.default_rng([seed, len(run), len(benchmark)])
                responses = [
                    {"id": item.id, "response": answer(item, run, draw), "ended": True}
                    for item in content
                ]
                path = folder / "results" / "scores" / run / f"seed{seed}" / f"{benchmark}.parquet"
                write_scores(
                    path.with_suffix(".json"), path, score(content, responses), benchmark, 0
                )
                scores.append(ScoreFile(run, seed, benchmark, path))
    metrics: dict[str, list[Path]] = {}
    for run in ("dpo", "mdpo"):
        for seed in SEEDS[run]:
            path = folder / "results" / "runs" / run / f"seed{seed}" / "metrics.jsonl"
            path.parent.mkdir(parents=True)
            path.write_text("".join(f"{json.dumps(row)}\n" for row in training_metrics(run, seed)))
            metrics.setdefault(run, []).append(path)
    preferences = folder / "results" / "preferences" / "bdhs"
    write_pairs(preferences / "pairs.parquet", sampled_pairs())
    (preferences / "statistics.json").write_text(json.dumps(sampling_statistics()))
    return SyntheticStudy(
        items, scores, metrics, preferences / "statistics.json", preferences / "pairs.parquet"
    )


def sampled_pairs() -> list[Pair]:
    draw = np.random.default_rng(3)
    return [
        Pair(
            f"p{number}",
            (scene(draw, ["cup", "plate"]),),
            "Describe the image.",
            "A blue cup stands on a table beside a plate.",
            "A blue cup stands on a table beside a dog. It looks happy.",
            "bdhs",
            {"bdhs": {"iteration": 2, "similarity": 0.613, "free": number == 7}},
        )
        for number in range(20)
    ]


def sampling_statistics() -> dict[str, object]:
    return {
        "pairs": 1000,
        "iterations": {"1": 700, "2": 180, "3": 60, "4": 30, "5": 30},
        "free": 30,
        "unfinished": 4,
        "similarity": {
            "edges": [round(0.1 * edge, 1) for edge in range(11)],
            "counts": [0, 5, 25, 70, 130, 190, 230, 210, 110, 30],
        },
        "hallucinated_per_answer": {"answers": 1000, "chosen": 0.02, "rejected": 0.98},
    }
