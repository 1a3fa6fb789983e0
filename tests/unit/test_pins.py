"""Versions stand in one place each, and the places agree."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def pins(file):
    lines = (ROOT / file).read_text().splitlines()
    found = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {normal(name): version for name, version in found.items()}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("env", sorted((ROOT / "envs").glob("*.yaml")), ids=lambda env: env.stem)
def test_conda_environments_have_the_locked_versions(env):
    locked = pins("requirements.lock")
    *_, pip = yaml.safe_load(env.read_text())["dependencies"]
    for requirement in pip["pip"]:
        name, version = requirement.split("==")
        assert locked[normal(name)] == version


@pytest.mark.parametrize("what", ["requirements", "requirements-test"])
def test_locks_hold_what_is_asked_for(what):
    asked, locked = pins(f"{what}.in"), pins(f"{what}.lock")
    assert {name: locked.get(name) for name in asked} == asked


def test_locks_do_not_contradict_each_other():
    assert not set(pins("requirements.lock")) & set(pins("requirements-test.lock"))


def test_every_direct_dependency_has_its_reason_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    packages = readme.split("## Packages, and why")[1].split("##")[0]
    named = set(re.findall(r"[a-z0-9-]+", packages.lower()))
    asked = set(pins("requirements.in")) | set(pins("requirements-test.in"))
    assert asked - named == set()


def test_every_rule_environment_is_there():
    for file in (ROOT / "workflow" / "rules").glob("*.smk"):
        for env in re.findall(r'"(\.\./\.\./envs/[^"]+)"', file.read_text()):
            assert (file.parent / env).is_file()
