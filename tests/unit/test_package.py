"""The package as somebody installs it who has no clone of the repository."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def without_checkout() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> Path:
    """The command `mmpref` of the wheel, in an environment with the packages of this one."""
    folder = tmp_path_factory.mktemp("package")
    # A copy, for setuptools builds in the folder of the source.
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source]
    subprocess.run([*pip, *build], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    install = ["install", "--no-deps", "--no-index", wheel]
    subprocess.run([*pip, "--python", python, *install], check=True, env=without_checkout())
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    # After the wheel's own, and without the .pth files that lead to this checkout.
    (site / "rest.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv" / "bin" / "mmpref"


def run(command: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command, *arguments], cwd=folder, env=without_checkout(), capture_output=True, text=True
    )


def test_the_installed_command_scores_pope(command, tmp_path):
    (tmp_path / "data" / "coco").mkdir(parents=True)
    questions = [
        {
            "question_id": n,
            "image": "a.jpg",
            "text": f"Is there a {name} in the image?",
            "label": label,
        }
        for n, (name, label) in enumerate([("cup", "yes"), ("dog", "no"), ("bus", "no")], start=1)
    ]
    given = [{"id": str(n), "response": text} for n, text in enumerate(["Yes", "No", "Yes"], 1)]
    for file, rows in (
        ("data/coco/coco_pope_popular.json", questions),
        ("answers.jsonl", given),
    ):
        (tmp_path / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    scored = run(
        command, "score", "pope-coco-popular", "--answers", "answers.jsonl", "--data", "data",
        "--output", "scores.json", folder=tmp_path,
    )  # fmt: skip
    assert scored.returncode == 0, scored.stderr
    assert "is not the pinned file of pope" in scored.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["official"]["accuracy"] == scores["strict"]["accuracy"] == 2 / 3
    assert (tmp_path / "scores.parquet").is_file()
    wrong = run(command, "score", "poppe", "--answers", "a", "--output", "b", folder=tmp_path)
    assert (wrong.returncode, "did you mean 'pope" in wrong.stderr) == (1, True)


def test_the_installed_command_explains_itself(command, tmp_path):
    shown = run(command, "--help", folder=tmp_path).stdout
    assert re.search(r"score +Score answers to a benchmark", shown)
    shown = run(command, "score", "--help", folder=tmp_path).stdout
    assert re.search(r"--data PATH +folder with the benchmark's files", shown)
    assert "{None}" not in shown


def test_scoring_pope_imports_no_model_library():
    code = (
        "import sys, mmpref.commands, mmpref.scoring.verdicts, mmpref.scoring.responses, "
        "mmpref.benchmarks.pope.score; "
        "print({'torch', 'transformers', 'nltk', 'sklearn', 'openai'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout == "set()\n", printed


def test_extras_name_packages_that_are_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    listed = [*project["dependencies"], *(one for extra in extras for one in extra)]
    names = {re.match(r"[\w-]+", one)[0] for one in listed} - {"mmpref"}
    pins = "".join((ROOT / f"requirements{part}.in").read_text() for part in ("", "-test"))
    assert names <= set(re.findall(r"^([\w-]+)==", pins, re.M))
