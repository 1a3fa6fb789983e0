"""The benchmarks a study can name."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from mmpref.benchmarks import benchmark as registry
from mmpref.benchmarks.benchmark import benchmarks, named
from mmpref.errors import InputError
from mmpref.study.benchmarks import kinds, module_of
from mmpref.study.study import parse


def study(**benchmark):
    return {
        "name": "x",
        "models": {"toy": {"source": "toyworld"}},
        "runs": {"base": {"model": "toy"}},
        "judges": {"gpt": {"model": "gpt"}},
        "datasets": {"scenes": {"source": "toyworld", "pairs": 4}},
        "benchmarks": {"b": benchmark},
    }


def test_every_kind_has_a_scorer_and_every_benchmark_a_reader():
    for kind in kinds():
        scorer = module_of(kind, "score")
        assert callable(scorer.verdict)
        assert callable(scorer.metrics)
    for one in benchmarks().values():
        assert one.kind in kinds()
        assert callable(one.reader.items)
        assert hasattr(module_of(one.kind, "score"), "calls") == (one.judged != "never")


def test_a_benchmark_declared_twice_names_both_files(monkeypatch):
    folders = [
        SimpleNamespace(__file__=f"{folder}/__init__.py", BENCHMARKS=(named("gqa"),))
        for folder in ("gqa", "mine")
    ]
    monkeypatch.setattr(registry, "modules", lambda package: folders)
    with pytest.raises(
        InputError, match=r"mine/__init__\.py: benchmark 'gqa' is already declared in gqa/__init__"
    ):
        registry.benchmarks.__wrapped__()


@pytest.mark.parametrize(
    ("benchmark", "words"),
    [
        ({"benchmark": "mhal"}, r"benchmarks\.b\.benchmark: .*'mhal'; did you mean 'mmhal'\?"),
        ({"benchmark": "mmhal"}, "mmhal is scored by a judge model; give `judge`"),
        ({"benchmark": "gqa", "judge": "gpt"}, "gqa is scored without a judge"),
        ({"benchmark": "mmhal", "judge": "gtp"}, r"b\.judge: unknown judge 'gtp'; did you m"),
        ({"benchmark": "gqa", "items": 5}, "`items` is given for `chair`"),
        ({"benchmark": "gqa", "prompt": "?"}, "`prompt` lacks {question}"),
        ({"source": "dataset", "dataset": "scene"}, r"b\.dataset: unknown dataset 'scene'"),
        ({"source": "publik"}, "unknown 'publik'; valid are: 'dataset', 'public'"),
    ],
)
def test_mistakes_in_a_study_are_named(benchmark, words):
    with pytest.raises(InputError, match=words):
        parse(study(**{"source": "public", **benchmark}), "study.yaml")


def test_what_comes_after_the_items_does_not_decide_about_them():
    one = parse(study(source="public", benchmark="mmhal", judge="gpt", judge_runs=3), "s")
    part = one.benchmarks["b"]
    decisive = part.model_dump(exclude=set(part.later), exclude_none=True)
    assert decisive == {"source": "public", "benchmark": "mmhal", "prompt": "{question}"}


def test_reading_a_study_imports_nothing_heavy():
    code = (
        "import sys, mmpref.study.study; from mmpref.benchmarks.benchmark import benchmarks; "
        "benchmarks(); print({'torch', 'numpy', 'pandas', 'pyarrow', 'PIL'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout == "set()\n", printed
