import copy
import math
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from test_study import STUDY

from mmpref.benchmarks.benchmark import benchmarks
from mmpref.benchmarks.mmhal.items import TYPES
from mmpref.errors import InputError
from mmpref.reporting.published import beside, markdown
from mmpref.scoring.verdicts import scorer_of
from mmpref.study.published import load_publication
from mmpref.study.study import parse

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "config" / "published").glob("*.yaml"))
REFERENCE = ROOT.parent / "shared" / "reference"

PUBLICATION = {
    "source": "A paper",
    "benchmarks": {
        "captions": {
            "counterparts": ["caption"],
            "judge": "a judge",
            "remark": "Other captions.",
            "metrics": {
                "CHAIRs": {"metric": "CHAIRs", "better": "lower", "factor": 100},
                "Cover": {"metric": "Cover", "better": "higher"},
            },
        },
        "other": {"remark": "Is not here.", "metrics": {"score": {"better": "higher"}}},
    },
    "tables": {
        "Table 1": {
            "title": "Runs",
            "model": "a model",
            "remark": "One seed.",
            "columns": ["captions/CHAIRs", "other/score"],
            "rows": {"base": [54.7, 3.0], "+ mDPO": [35.7, None]},
        },
        "Table 2": {
            "title": "Cover",
            "model": "a model",
            "columns": ["captions/Cover"],
            "rows": {"base": [0.5]},
        },
    },
}
PUBLISHED = {
    "rows": {"base": ["Table 1: base"], "mdpo": ["Table 1: + mDPO"]},
    "benchmarks": {"captions": "captions", "other": None},
}


@pytest.fixture
def study(tmp_path):
    """Return a function that parses a study with published numbers, both as edited."""

    def parsed(edit=lambda publication, study: None):
        publication, data = copy.deepcopy(PUBLICATION), copy.deepcopy(STUDY)
        data["published"] = {"file": str(tmp_path / "paper.yaml"), **copy.deepcopy(PUBLISHED)}
        edit(publication, data)
        (tmp_path / "paper.yaml").write_text(yaml.safe_dump(publication))
        return parse(data, "study.yaml")

    return parsed


def test_a_published_value_stands_beside_the_own_one_in_its_unit(study):
    comparison = study().comparison()
    main = pd.DataFrame(
        [("base", "captions", "CHAIRs", 0.6, 0.5, 0.7), ("mdpo", "captions", "CHAIRs", 0.3, 0, 1)],
        columns=["run", "benchmark", "metric", "mean", "low", "high"],
    )
    rows = beside(main, comparison)
    assert rows["own"].tolist() == pytest.approx([60, 30])
    assert rows["high"].tolist() == pytest.approx([70, 100])
    assert rows["difference"].tolist() == pytest.approx([60 - 54.7, 30 - 35.7])
    # The base is compared with nothing.
    assert rows["change"].tolist() == pytest.approx([math.nan, -30], nan_ok=True)
    assert rows["published_change"].tolist() == pytest.approx([math.nan, -19], nan_ok=True)
    text = markdown(rows, comparison, {"mdpo": "mDPO"})
    assert (
        "| mDPO | CHAIRs | 30.0 [0.00, 100.0] | 35.7 | -5.70 | -30.0 | -19.0 | Table 1: + mDPO"
        in text
    )
    for said in (
        "Judge there: a judge; here: none.",
        "Harness there: not stated.",
        "Other captions.",
        "Table 1: One seed.",
        "Published, but compared with nothing: other/score.",
    ):
        assert said in text


def test_a_change_is_of_the_same_table_where_the_base_stands_in_two(study):
    def edit(paper, data):
        columns = ["captions/CHAIRs"]
        paper["tables"]["Again"] = {
            "title": "Another evaluator",
            "model": "a model",
            "columns": columns,
            "rows": {"base": [50.0], "mDPO": [30.0]},
        }
        data["published"]["rows"] = {
            "base": ["Table 1: base", "Again: base"],
            "mdpo": ["Again: mDPO"],
        }

    values = study(edit).comparison().values
    found = {one.row: (one.base, one.base_value) for one in values}
    assert found["Again: mDPO"] == ("base", 50.0)
    assert found["Again: base"] == (None, None)


def test_scores_without_the_metric_are_an_error(study):
    main = pd.DataFrame(columns=["run", "benchmark", "metric", "mean", "low", "high"])
    with pytest.raises(InputError, match=r"published.rows.base: .* scores on captions have no CH"):
        beside(main, study().comparison())


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda paper, study: study["published"]["rows"].update(base=["Table 1: bas"]),
            "published.rows.base: unknown row 'Table 1: bas'; did you mean 'Table 1: base'",
        ),
        (
            lambda paper, study: study["published"]["rows"].update(bse=["Table 1: base"]),
            "published.rows.bse: unknown run 'bse'; did you mean 'base'",
        ),
        (
            lambda paper, study: study["published"]["benchmarks"].pop("other"),
            "'Table 1: base' has the metric other/score, which the study lacks",
        ),
        (
            lambda paper, study: study["published"]["benchmarks"].update(other="captions"),
            "other/score, which the study lacks: 'captions' is caption, .* none of the benchmarks",
        ),
        (
            lambda paper, study: study["published"]["benchmarks"].update(captions="caption"),
            "published.benchmarks.captions: unknown benchmark 'caption'",
        ),
        (
            lambda paper, study: study["published"]["benchmarks"].update(caption="captions"),
            "published.benchmarks.caption: is not in .*; did you mean 'captions'",
        ),
        (
            lambda paper, study: study.update(table={"metrics": {"captions": ["Cover"]}}),
            "captions/CHAIRs, which the study lacks: table.metrics.captions leaves CHAIRs out",
        ),
        (
            lambda paper, study: paper["tables"]["Table 2"]["rows"].update(base=[0.5, 1.0]),
            r"paper.yaml: .*tables.Table 2.rows.base: has 2 values for 1 columns",
        ),
        (
            lambda paper, study: paper["tables"]["Table 2"].update(columns=["captions/Cog"]),
            r"paper.yaml: .*tables.Table 2.columns: unknown captions/Cog",
        ),
        (
            lambda paper, study: paper["tables"]["Table 2"]["rows"].update(base=["high"]),
            r"paper.yaml: tables.Table 2.rows.base.0: .*number.*'high'",
        ),
        (
            lambda paper, study: study["published"].update(file="none.yaml"),
            "none.yaml: cannot be read",
        ),
    ],
)
def test_a_mistake_is_named_before_anything_runs(study, edit, message):
    with pytest.raises(InputError, match=message):
        study(edit)


def test_what_a_judge_finds_is_lacking_without_one(study):
    def edit(paper, study):
        paper["benchmarks"]["captions"]["counterparts"] = ["object-halbench"]
        paper["benchmarks"]["captions"]["metrics"]["CHAIRs"]["metric"] = "official/CHAIRs"
        study["benchmarks"]["captions"] = {"source": "public", "benchmark": "object-halbench"}

    with pytest.raises(InputError, match="has no judge and so no official/CHAIRs"):
        study(edit)


# Columns of verdicts that metrics need.
PARTS = {
    "amber": ("generative", "existence", "state", "relation"),
    "pope": ("random", "popular", "adversarial"),
    "mmhal": TYPES,
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_published_metric_has_its_counterpart(file):
    for name, described in load_publication(str(file)).benchmarks.items():
        for metric in described.metrics.values():
            assert bool(described.counterparts) == bool(metric.metric), name
        for counterpart in described.counterparts:
            kind = benchmarks()[counterpart].kind
            parts = {f"{part}/items" for part in PARTS.get(kind, ())}
            known = scorer_of(kind).metrics({"items", "strict_items_0", *parts})
            for metric in described.metrics.values():
                assert metric.metric in known, (counterpart, metric.metric, list(known))
                assert known[metric.metric].better == metric.better


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the notes on the papers are not here")
@pytest.mark.parametrize(
    ("file", "table", "heading"),
    [
        ("mdpo", "Table 1", "### 4.1"),
        ("mdpo", "Table 1 (referenced)", "### 4.2"),
        ("mdpo", "Table 5", "### 4.4"),
        ("mdpo", "LPOI", r"\*\*LPOI"),
        ("bdhs", "Table 2", "### Table 2"),
        ("bdhs", "Table 3", "### Table 3"),
        ("bdhs", "Table 5", "### Table 5"),
        ("bdhs", "Table 6", "### Table 6"),
        ("bdhs", "Table 15", "### Table 15"),
    ],
)
def test_columns_add_up_to_those_of_the_paper(file, table, heading):
    text = (REFERENCE / f"{file}.md").read_text()
    part = re.split(rf"^{heading}.*$", text, maxsplit=1, flags=re.MULTILINE)[1]
    lines = re.search(r"(?:^\|.*\n)+", part, re.MULTILINE)[0].splitlines()[2:]
    found = load_publication(f"config/published/{file}.yaml").tables[table]
    cells = [re.split(r"\s*\|\s*", line)[1:-1][-len(found.columns) :] for line in lines]
    paper = [sum(float(cell) for cell in one if cell != "-") for one in zip(*cells, strict=True)]
    own = [sum(cell or 0 for cell in one) for one in zip(*found.rows.values(), strict=True)]
    assert len(found.rows) == len(lines)
    assert own == pytest.approx(paper)
