"""What people add is found by where it lies, and costs a dry run nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from mmpref.errors import InputError
from mmpref.study import registry

HEAVY = ("torch", "numpy", "pyarrow", "pandas", "PIL", "transformers", "datasets", "nltk", "scipy")

PART = """
from typing import Literal
from mmpref.study.parts import Part

class {name}(Part):
    name: Literal["{tag}"] = "{tag}"
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package to put files into; a new one for each test, since modules are cached."""
    name = f"plugins_{tmp_path.name}"
    (tmp_path / name).mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / name


def test_a_file_in_the_folder_is_enough(package):
    (package / "one.py").write_text(PART.format(name="One", tag="one"))
    (package / "two.py").write_text(PART.format(name="Two", tag="two"))
    found = registry.kinds(package.name, "name")
    assert {tag: kind.__name__ for tag, kind in found.items()} == {"one": "One", "two": "Two"}


def test_what_a_file_imports_is_not_declared_there(package):
    (package / "one.py").write_text(PART.format(name="One", tag="one"))
    (package / "two.py").write_text(f"from {package.name}.one import One\n")
    assert list(registry.kinds(package.name, "name")) == ["one"]


def test_an_entry_that_is_declared_twice_is_named_with_both_files(package):
    (package / "one.py").write_text(PART.format(name="One", tag="same"))
    (package / "two.py").write_text(PART.format(name="Two", tag="same"))
    with pytest.raises(InputError, match=r"two\.py: name 'same' is already declared in .*one\.py"):
        registry.kinds(package.name, "name")


def test_reading_a_study_imports_nothing_heavy():
    source = Path(__file__).parents[2] / "src"
    code = (
        "import sys, mmpref.study.study as study; study.load('config/config.yaml'); "
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=source.parent,
        env={"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
