"""The dataset of docs/adding-a-dataset.md, added to a checkout as its reader would."""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml
from PIL import Image

from mmpref.downloads import Download

GUIDE = Path(__file__).parents[2] / "docs" / "adding-a-dataset.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)


def test_a_dataset(checkout):
    module, its_test = blocks("python")
    (checkout.folder / "src/mmpref/datasets/votes.py").write_text(module)
    (checkout.folder / "test_votes_dataset.py").write_text(its_test)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "test_votes_dataset.py"],
        cwd=checkout.folder,
        env=checkout.environment | {"PYTHONPATH": str(checkout.folder / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout

    folder = checkout.folder / "votes"
    folder.mkdir()
    rows = []
    for number in range(8):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(folder / f"{number}.png")
        votes = {"A wall.": 4 + number, "A door.": 1, "A cup.": 0}
        question = {"image": f"{number}.png", "question": "What is it?", "votes": votes}
        rows.append({"id": str(number)} | question)
    lines = [json.dumps(row) for row in rows]
    (folder / "votes.jsonl").write_text("\n".join(["no vote", *lines]))
    checkout.change_study(
        lambda study: study["datasets"].update(scenes={"source": "votes", "folder": "votes"})
    )
    pairs = "results/preferences/own/pairs.parquet"
    printed = checkout.snakemake(pairs)
    assert "16 pairs kept, 1 rows in quarantine" in printed
    assert checkout.planned(pairs) == {}

    # A new margin, and an edit of the file, rerun this dataset.
    checkout.change_study(lambda study: study["datasets"]["scenes"].update(margin=4))
    assert checkout.planned(pairs) == {"dataset": 1, "dataset_preferences": 1}
    checkout.change_study(lambda study: study["datasets"]["scenes"].pop("margin"))
    assert checkout.planned(pairs) == {}
    checkout.edit("src/mmpref/datasets/votes.py", "{row['id']}-{place}", "{row['id']}/{place}")
    assert checkout.planned(pairs) == {"dataset": 1, "dataset_preferences": 1}
    # A typing error in the study names what the class declares.
    checkout.change_study(lambda study: study["datasets"]["scenes"].update(margins=4))
    assert "datasets.scenes" in checkout.snakemake("--dry-run", check=False)


def test_its_download_is_one():
    (download,) = (yaml.safe_load(text)["votes"] for text in blocks("yaml") if "licence" in text)
    assert Download.model_validate(download).files[0].path == "votes.jsonl"
