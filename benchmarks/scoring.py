"""How long scoring takes after loading: AMBER, POPE and CHAIR at the sizes of the papers.

The unit is what NLTK alone takes for the same texts, with which both readings have to begin. Needs
the benchmarks' files, and NLTK_DATA:

    PYTHONPATH=src python benchmarks/scoring.py ../shared/benchmarks
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mmpref.benchmarks.benchmark import named
from mmpref.language.words import tagged, tokens
from mmpref.records.items import Item
from mmpref.scoring.resources import Resources
from mmpref.scoring.responses import read_responses
from mmpref.scoring.verdicts import score, write_scores

CAPTIONS = 20_000


def amber(row: dict, draw: random.Random) -> str:
    """A made-up answer: true and hallucinated words, or yes and no."""
    if row["type"] != "generative":
        return draw.choice(["Yes", "No", "No.", "I cannot tell"])
    words = draw.choices(row["truth"], k=12) + draw.choices(row["hallu"], k=4)
    return " ".join(f"In the picture there is a {word}." for word in words)


def measure(
    name: str,
    items: Sequence[Item],
    texts: Sequence[str],
    folder: Path,
    unit: Callable[[str], object] | None = None,
) -> None:
    """Print how long scoring takes, all and as a multiple of `unit` on the texts."""
    answers = [{"id": item.id, "response": text} for item, text in zip(items, texts, strict=True)]
    start = time.perf_counter()
    scores = score(items, answers, Resources(folder))
    scored = time.perf_counter()
    with tempfile.TemporaryDirectory() as output:
        write_scores(f"{output}/scores.json", f"{output}/scores.parquet", scores, name, 0)
    written = time.perf_counter()
    line = f"{name}: {len(items):,} answers scored in {scored - start:.1f} s"
    if unit:
        for text in texts:
            unit(text)
        alone = time.perf_counter() - written
        line += f" ({(scored - start) / alone:.2f} times NLTK alone)"
    print(f"{line}, intervals and files {written - scored:.1f} s")


def main() -> None:
    folder, draw = Path(sys.argv[1]), random.Random(0)
    # What is read at first use: WordNet, the tagger.
    one = [Item("0", (), "", {"kind": "chair", "objects": [], "image": "0"})]
    measure("loading", one, ["Two dogs."], folder / "chair")
    tagged(tokens("Two dogs."))

    rows = json.loads((folder / "amber" / "annotations.json").read_text())
    measure(
        "AMBER",
        named("amber").items(folder / "amber"),
        [amber(row, draw) for row in rows],
        folder / "amber",
        lambda text: tagged(tokens(text)) if len(text) > 20 else None,
    )
    items = named("pope-coco").items(folder / "pope")
    texts = draw.choices(["Yes", "No, there is none.", "NO", ""], k=len(items))
    measure("POPE", items, texts, folder / "pope")

    captions = [
        answer["response"]
        for path in sorted((folder / "pope" / "captions").glob("*.json"))
        for answer in read_responses(path, official=named("chair").responses)
    ]
    images = named("chair").items(folder / "chair")
    # There are ground truths of fewer images than captions: each image is there several times.
    items = [
        Item(str(n), (), "", images[n % len(images)].truth | {"image": str(n)})
        for n in range(CAPTIONS)
    ]
    texts = draw.choices(captions, k=CAPTIONS)
    measure("CHAIR", items, texts, folder / "chair", lambda text: tokens(text.lower()))


if __name__ == "__main__":
    main()
