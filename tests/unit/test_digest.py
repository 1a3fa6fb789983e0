import shutil
from pathlib import Path

import pytest

from mmpref.digest import _module, digest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "script.py": "from mmpref.a import thing\nimport mmpref.study.runs\nprint(thing)\n",
        "src/mmpref/__init__.py": "",
        "src/mmpref/a.py": "import mmpref.deep.b\nthing = 1\n",
        "src/mmpref/deep/__init__.py": "",
        "src/mmpref/deep/b.py": '"""Doc."""\n\n\ndef f():\n    """A."""\n    return "words.txt"\n',
        "src/mmpref/deep/words.txt": "cup",
        "src/mmpref/other.py": "x = 1\n",
        "src/mmpref/study/runs.py": "class Run: pass\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def digest_of(tree):
    _module.cache_clear()
    return digest([tree / "script.py"], tree / "src")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("script.py", "from mmpref.a import thing\nprint(thing, thing)\n"),
        ("src/mmpref/a.py", "import mmpref.deep.b\nthing = 2\n"),
        ("src/mmpref/deep/b.py", "def f():\n    return 3\n"),
        ("src/mmpref/deep/__init__.py", "y = 1\n"),
        ("src/mmpref/deep/words.txt", "cup\nbowl"),
    ],
)
def test_code_that_is_used_changes_it(tree, file, text):
    before = digest_of(tree)
    (tree / file).write_text(text)
    assert digest_of(tree) != before


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("src/mmpref/other.py", "x = 2\n"),
        ("src/mmpref/study/runs.py", "class Run:\n    option = 1\n"),
        ("src/mmpref/a.py", "# why\nimport mmpref.deep.b\n\nthing = 1\n"),
        ("src/mmpref/deep/b.py", 'def f():\n    """Other words."""\n    return "words.txt"\n'),
    ],
)
def test_other_modules_comments_and_docstrings_do_not(tree, file, text):
    before = digest_of(tree)
    (tree / file).write_text(text)
    assert digest_of(tree) == before


def test_an_edited_prompt_of_the_judge_changes_it(tmp_path):
    root = Path(__file__).parents[2]
    shutil.copytree(root / "src", tmp_path / "src")
    folder = tmp_path / "src" / "mmpref" / "benchmarks" / "mmhal"
    before = digest([folder / "score.py"], tmp_path / "src")
    (folder / "judge.txt").write_text("Rate this.")
    assert digest([folder / "score.py"], tmp_path / "src") != before
