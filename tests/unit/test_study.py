import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmpref.errors import InputError
from mmpref.study import documentation
from mmpref.study.study import load, parse

CONFIG = Path(__file__).parents[2] / "config"
STUDY = {
    "name": "example",
    "models": {"toy": {"source": "toyworld"}},
    "datasets": {"scenes": {"source": "toyworld", "pairs": 10}},
    "preferences": {"sampled": {"dataset": "scenes", "bdhs": {"model": "toy"}}},
    "training": {"epochs": 2, "batch_size": 8},
    "runs": {
        "base": {"model": "toy"},
        "mdpo": {
            "model": "toy",
            "preferences": "sampled",
            "objective": {"name": "mdpo", "beta": 0.2},
            "training": {"epochs": 1},
            "seeds": [0, 1],
        },
    },
    "benchmarks": {"captions": {"source": "toyworld-captions"}},
}


def changed(path, value):
    data = copy.deepcopy(STUDY)
    *parents, last = path.split(".")
    part: Any = data
    for parent in parents:
        part = part[parent]
    part[last] = value
    return data


def test_a_run_is_compared_with_its_own_model():
    data: Any = copy.deepcopy(STUDY)
    data["models"]["other"] = {"source": "toyworld"}
    trained = data["runs"]["mdpo"]
    data["runs"] |= {"other": {"model": "other"}, "other-mdpo": {**trained, "model": "other"}}
    assert parse(data, "f").bases() == {"mdpo": "base", "other-mdpo": "other"}
    data["table"] = {"base": "mdpo"}
    assert parse(data, "f").bases() == dict.fromkeys(("base", "other", "other-mdpo"), "mdpo")
    del data["table"], data["runs"]["other"]
    assert parse(data, "f").bases() == {"mdpo": "base"}


def test_a_runs_training_lies_over_the_studys():
    training = parse(STUDY, "f").runs["mdpo"].training
    assert (training.epochs, training.batch_size) == (1, 8)


def test_an_objective_of_a_study_asks_for_the_images_it_looks_at():
    def images(study):
        return {view.image for view in parse(study, "f").runs["mdpo"].objective.views}

    assert images(STUDY) == {"original", "crop_0_20"}
    assert images(changed("runs.mdpo.objective.conditional", False)) == {"original"}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("run", {}, "run: unknown key; did you mean 'runs'?"),
        ("runs.mdpo.training.epoch", 3, "runs.mdpo.training.epoch: unknown key; did you mean"),
        ("runs.mdpo.objective.betta", 1, "runs.mdpo.objective.betta: unknown key"),
        ("runs.mdpo.objective.beta", "high", "runs.mdpo.objective.beta: .* number .*'high'"),
        ("runs.mdpo.objective.name", "ppo", "unknown 'ppo'; valid are: 'dpo', 'mdpo'"),
        ("runs.mdpo.model", "toi", "runs.mdpo.model: unknown model 'toi'; did you mean 'toy'"),
        ("runs.mdpo.preferences", "none", "unknown preferences entry 'none'; defined are: sampled"),
        ("runs.mdpo.seeds", [1, 1], "runs.mdpo: duplicate seed"),
        ("runs.base.seeds", [0, 1], "runs.base: without an objective"),
        ("runs.base.objective", {"name": "dpo"}, "`objective` and `preferences`"),
        ("runs.mdpo.training.batch_size", 6, "batch_size 6 is not a multiple"),
        ("runs.My Run", {"model": "toy"}, "runs: 'My Run' is not a valid name"),
        ("models.toy", {"steps": 3}, "models.toy.source: is missing"),
        ("models.toy.steps", "many", "models.toy.steps: .* integer .*'many'"),
        ("preferences.sampled.bdhs.mask_ratio", 3, "bdhs.mask_ratio: .*less than or equal to 1"),
        ("preferences.sampled.dataset", "x", "unknown dataset 'x'; defined are: scenes"),
        ("preferences.sampled.bdhs.model", "x", "unknown model 'x'"),
        ("table", {"base": "bse"}, "table.base: unknown run 'bse'; did you mean 'base'"),
        ("table", {"metrics": {"x": []}}, "table.metrics.x: unknown benchmark 'x'"),
        ("runs.mdpo.training.zero_stage", 0, "runs.mdpo.training: zero_stage 0 is for float32"),
        ("runs.mdpo.training.dtype", "float32", "runs.mdpo.training.dtype: .* one precision"),
        ("runs.mdpo.training.max_length", 9, "training.max_length: all runs .* the same pairs"),
        ("report", {"labels": {"mpdo": "x"}}, "report.labels.mpdo: .* did you mean 'mdpo'"),
        ("report", {"colours": {"mdpo": "red"}}, "report.colours.mdpo: .*'red'"),
    ],
)
def test_a_mistake_is_named(path, value, message):
    with pytest.raises(InputError, match=message) as caught:
        parse(changed(path, value), "study.yaml")
    assert str(caught.value).startswith("study.yaml: ")


def test_every_mistake_has_a_line():
    data = changed("runs.mdpo.objective.betta", 1)
    data["sead"] = 3
    with pytest.raises(InputError) as caught:
        parse(data, "f")
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is not YAML"), ("- a", "a study is a mapping"), (None, "cannot be read")],
)
def test_a_file_that_is_no_study(tmp_path, text, message):
    file = tmp_path / "study.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=message):
        load(file)


@pytest.mark.parametrize("file", [CONFIG / "config.yaml", *sorted(CONFIG.glob("studies/*.yaml"))])
def test_shipped_studies_are_valid(file):
    assert load(file).runs


def test_schema_and_tables_are_those_of_the_classes():
    message = "run `python -m mmpref.study.documentation`"
    assert (CONFIG / "schema.json").read_text() == documentation.schema(), message
    assert (CONFIG / "README.md").read_text().endswith(documentation.tables()), message


def test_schema_accepts_the_demo():
    jsonschema = pytest.importorskip("jsonschema")
    import json

    demo = yaml.safe_load((CONFIG / "config.yaml").read_text())
    jsonschema.validate(demo, json.loads(documentation.schema()))
