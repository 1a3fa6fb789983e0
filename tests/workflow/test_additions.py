"""What people add, from outside the package's own list, as docs and CONTRIBUTING show it."""

import json
import re

import yaml
from PIL import Image

from conftest import ROOT

BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def test_a_benchmark(checkout, saved_llava):
    page = (ROOT / "docs" / "adding-a-benchmark.md").read_text()
    blocks = [(language, text) for language, text in BLOCK.findall(page)]
    code = [text for language, text in blocks if language == "python"]
    download, study = (text for language, text in blocks if language == "yaml")
    package = checkout.folder / "src" / "mmpref"
    folder = package / "benchmarks" / "counting"
    folder.mkdir()
    for name, text in zip(("__init__", "items", "score"), code, strict=True):
        (folder / f"{name}.py").write_text(text)
    with (package / "downloads.yaml").open("a") as file:
        file.write(f"\n{download}")

    mine = checkout.folder / "mine"
    (mine / "images").mkdir(parents=True)
    questions = [
        {"question": "How many cups?", "image": f"{colour}.png", "count": count}
        for count, colour in enumerate(["red", "blue"])
    ]
    for row in questions:
        Image.new("RGB", (16, 16), row["image"][:-4]).save(mine / "images" / row["image"])
    lines = "".join(json.dumps(row) + "\n" for row in questions)
    (mine / "questions.jsonl").write_text(lines)
    checkout.write_study(
        {
            "name": "added",
            "models": {"tiny": {"source": "local", "folder": str(saved_llava)}},
            "runs": {"base": {"model": "tiny"}},
            "training": {"dtype": "float32"},
            **yaml.safe_load(study),
        }
    )
    checkout.change_study(lambda study: study["benchmarks"]["counting"].update(max_new_tokens=4))
    checkout.snakemake("results/scores/base/seed0/counting.json")
    scores = json.loads((checkout.folder / "results/scores/base/seed0/counting.json").read_text())
    assert (scores["items"], 0 <= scores["metrics"]["accuracy"] <= 1) == (2, True)
    assert not scores["data"]["questions.jsonl"]["pinned"]

    # An edit of its scorer makes neither its items nor the responses anew.
    scorer = "src/mmpref/benchmarks/counting/score.py"
    checkout.edit(scorer, "int(correct),", "int(not correct),")
    assert checkout.planned("results/scores/base/seed0/counting.json") == {"score": 1}
    # A name that is taken is an error that names both files.
    checkout.edit("src/mmpref/benchmarks/counting/__init__.py", '"counting",', '"gqa",')
    printed = checkout.snakemake("--dry-run", check=False)
    assert re.search(
        r"gqa/__init__.py: benchmark 'gqa' is already declared in \S*counting/__init__.py; choose",
        printed,
    )
