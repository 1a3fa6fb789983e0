import json
import math
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from synthetic_study import BASES, SEEDS, sampling_statistics, write_study

from mmpref.errors import InputError
from mmpref.records.items import Item
from mmpref.reporting import figures
from mmpref.reporting.tables import (
    DIFFERENCE_COLUMNS,
    MAIN_COLUMNS,
    by_base,
    interval,
    markdown,
    number,
    read_results,
    read_table,
    score_file,
    summarise,
)
from mmpref.scoring.verdicts import Scores, score

COLOURS = {"base": "#7a7a7a", "dpo": "#0072b2", "mdpo": "#d55e00"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"), count=40)


@pytest.fixture(scope="module")
def results(study):
    return read_results(study.scores)


@pytest.fixture(scope="module")
def tables(results):
    return summarise(results, BASES, seed=0)


def test_the_main_table_holds_the_mean_over_seeds(study, tables):
    assert list(tables.main.columns) == MAIN_COLUMNS
    rows = tables.main.set_index(["run", "benchmark", "metric"])
    summaries = [
        json.loads(file.path.with_suffix(".json").read_text())["metrics"]["CHAIRi"]
        for file in study.scores
        if (file.run, file.benchmark) == ("mdpo", "captions")
    ]
    row = rows.loc[("mdpo", "captions", "CHAIRi")]
    assert row["mean"] == pytest.approx(sum(summaries) / 3)
    assert row["low"] < row["mean"] < row["high"]
    assert (row["seeds"], row["items"]) == (3, 40)
    assert rows.loc[("base", "captions", "CHAIRi"), "seeds"] == 1


def test_with_one_seed_table_and_summary_have_the_same_intervals(study, tables):
    path = next(file.path for file in study.scores if file.run == "base")
    summary = json.loads(path.with_suffix(".json").read_text())
    row = tables.main.set_index(["run", "benchmark", "metric"]).loc[("base", "captions", "Cover")]
    assert dict(row[["mean", "low", "high"]]) == pytest.approx(
        dict(
            zip(
                ("mean", "low", "high"),
                (summary["metrics"]["Cover"], *summary["intervals"]["Cover"]),
                strict=True,
            )
        )
    )


def test_differences_are_those_of_the_means_and_none_of_the_base(tables):
    assert list(tables.differences.columns) == DIFFERENCE_COLUMNS
    assert set(tables.differences["run"]) == {"dpo", "mdpo"}
    means = tables.main.set_index(["run", "benchmark", "metric"])["mean"]
    for row in tables.differences.itertuples():
        expected = means[row.run, row.benchmark, row.metric]
        expected -= means["base", row.benchmark, row.metric]
        assert row.difference == pytest.approx(expected, nan_ok=True)


def test_pairing_makes_a_difference_to_an_equal_run_certain(results):
    twin = {"captions": {"base": results["captions"]["base"], "twin": results["captions"]["base"]}}
    differences = summarise(twin, {"twin": "base"}, seed=0).differences
    assert (differences[["difference", "low", "high"]] == 0).all(axis=None)


def test_the_metrics_of_the_study_are_kept_in_their_order(results):
    found = summarise(results, BASES, 0, {"captions": ["Cover", "CHAIRs"]}).main
    captions = found[found["benchmark"] == "captions"]
    assert list(dict.fromkeys(captions["metric"])) == ["Cover", "CHAIRs"]
    assert "adversarial/F1" in set(found["metric"])
    with pytest.raises(InputError, match=r"metrics\.captions: unknown metric CHAIR; valid are"):
        summarise(results, BASES, 0, {"captions": ["CHAIR"]})


def test_a_metric_that_some_run_lacks_is_left_out(results):
    lacking = [Scores(one.table.drop(columns="unfinished")) for one in results["captions"]["dpo"]]
    some = {"captions": {**results["captions"], "dpo": [lacking[0], *results["captions"]["dpo"]]}}
    assert "unfinished" in set(summarise(results, BASES, seed=0).main["metric"])
    assert "unfinished" not in set(summarise(some, BASES, seed=0).main["metric"])


def test_a_benchmark_without_the_base_has_no_differences(results):
    alone = {"captions": {"dpo": results["captions"]["dpo"]}}
    tables = summarise(alone, BASES, seed=0)
    assert len(tables.main) == len(results["captions"]["dpo"][0].metrics)
    assert tables.differences.empty
    assert summarise({}, BASES, seed=0).main.columns.tolist() == MAIN_COLUMNS


def test_runs_seeds_and_benchmarks_are_those_of_the_path():
    found = score_file("results/scores/mdpo/seed12/pope.parquet")
    assert (found.run, found.seed, found.benchmark) == ("mdpo", 12, "pope")
    with pytest.raises(InputError, match="RUN/seedS/BENCHMARK"):
        score_file("results/scores/mdpo/pope.parquet")


def test_tables_survive_the_file_whatever_the_runs_are_called(results, tmp_path):
    captions = results["captions"]
    named = {"captions": {"null": captions["base"], "007": captions["dpo"]}}
    tables = summarise(named, {"007": "null"}, seed=0)
    for table in (tables.main, tables.differences, tables.differences.iloc[:0]):
        table.to_csv(tmp_path / "table.csv", index=False)
        pd.testing.assert_frame_equal(
            read_table(tmp_path / "table.csv"), table, check_dtype=len(table) > 0
        )


def test_runs_scored_on_different_items_are_refused(study, tmp_path):
    table = pd.read_parquet(study.scores[0].path)
    table.iloc[:-1].to_parquet(tmp_path / "captions.parquet")
    fewer = type(study.scores[0])("other", 0, "captions", tmp_path / "captions.parquet")
    with pytest.raises(InputError, match="captions: scores are about different items"):
        read_results([study.scores[0], fewer])


def test_runs_stand_with_their_base():
    runs = ["a", "a-dpo", "b", "b-dpo", "lonely"]
    assert by_base(runs, {"a-dpo": "a", "b-dpo": "b"}) == {
        "a": ["a", "a-dpo"],
        "b": ["b", "b-dpo"],
        None: ["lonely"],
    }


def test_markdown_never_shows_a_bare_mean(tables):
    text = markdown(tables, BASES, {"mdpo": "mDPO | ours"})
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    captions = lines[0]
    assert captions.startswith("| run | CHAIRs | CHAIRi | Cover | Cog | words |")
    assert re.match(r"\| base \| \d\.\d\d \[\d\.\d\d, \d\.\d\d\] \|", lines[2])
    assert any(line.startswith(r"| mDPO \| ours |") for line in lines)
    for line in lines:
        for cell in re.split(r"(?<!\\)\|", line)[2:-1]:
            numbers = re.findall(r"\d+\.\d+", cell)
            assert len(numbers) in (0, 3), cell
    assert "Difference to base on the same items" in text


def test_numbers_in_words():
    assert (number(0.525), number(12.34), number(math.nan)) == ("0.53", "12.3", "–")
    assert (number(-0.001), number(0.001, signed=True)) == ("0.00", "0.00")
    assert interval(-0.4, 0.05, signed=True) == "[-0.40, +0.05]"


def test_colours_are_given_or_of_the_palette_and_never_shared():
    found = figures.palette(["base", "dpo", "mdpo"], {"dpo": figures.PALETTE[0].upper()})
    assert found["dpo"] == figures.PALETTE[0].upper()
    assert len({colour.lower() for colour in found.values()}) == 3


def drawings(study, tables) -> list[str]:
    runs = {run: [figures.read_metrics(path) for path in paths]
            for run, paths in study.metrics.items()}  # fmt: skip
    statistics = sampling_statistics()
    plain = {key: statistics[key] for key in statistics if key != "hallucinated_per_answer"}
    return [
        figures.svg(figures.training_curves(runs, COLOURS, {"dpo": "DPO & co"})),
        figures.svg(figures.hallucination_vs_cover(tables.main, "captions", COLOURS, {})),
        figures.svg(figures.sampling_statistics({"bdhs": statistics})),
        figures.svg(figures.sampling_statistics({"bdhs": plain, "other": plain})),
    ]


def test_the_sampling_figure_shows_shares_and_means():
    figure = figures.sampling_statistics({"bdhs": sampling_statistics()})
    axes: list[Any] = figure.axes
    iterations, similarity, hallucination = axes
    bars = {patch.get_x() + patch.get_width() / 2: patch.get_height()
            for patch in iterations.patches}  # fmt: skip
    assert bars == pytest.approx({1: 0.7, 2: 0.18, 3: 0.06, 4: 0.03, 5: 0.03})
    values, edges, _ = similarity.patches[0].get_data()
    assert (edges[0], values.sum()) == pytest.approx((0.1, 1))  # the empty first bin is left out
    assert [patch.get_height() for patch in hallucination.patches] == [0.02, 0.98]


def test_figures_are_equal_for_equal_input_and_show_what_they_should(study, tables):
    first, second = drawings(study, tables), drawings(study, tables)
    assert first == second
    for text in first:
        ElementTree.fromstring(text.replace("xlink:", ""))
        assert "<metadata>" not in text
        assert "#010203" not in text
    training, cover, sampling, two = first
    for colour in ("#0072b2", "#d55e00"):
        assert colour in training
        assert colour in cover
    assert "DPO &amp; co" in training
    assert "Reward margin" in training
    assert "CHAIRs against Cover" in cover
    assert "3% free" in sampling
    assert "hallucinated objects per answer" in sampling
    assert "hallucinated objects per answer" not in two


def test_many_runs_are_told_apart():
    runs = [f"run-{number}" for number in range(20)]
    parts = list(figures.pieces(runs))
    assert [run for part in parts for run in part] == runs
    colours = figures.palette(runs)
    for part in parts:
        assert len({colours[run] for run in part}) == len(part)
    rows = [
        (run, "captions", metric, 0.01 * number, 0.0, 1.0)
        for number, run in enumerate(runs)
        for metric in ("CHAIRs", "CHAIRi", "Cover")
    ]
    main = pd.DataFrame(rows, columns=["run", "benchmark", "metric", "mean", "low", "high"])
    figure = figures.hallucination_vs_cover(main, "captions", colours, {})
    shown = {(line.get_color(), line.get_marker()) for line in figure.legends[0].get_lines()}
    assert len(shown) == len(runs)
    # Their names do not run out of the figure.
    curves = figures.training_curves({run: [] for run in runs}, colours, {})
    for wide in (figure, curves):
        canvas = FigureCanvasAgg(wide)
        canvas.draw()
        extent = wide.legends[0].get_window_extent(canvas.get_renderer())
        assert extent.width <= wide.bbox.width


def test_a_curve_is_the_mean_over_seeds_and_the_band_their_range():
    index = pd.RangeIndex(1, 11, name="step")
    seeds = [pd.DataFrame({"loss": [float(level)] * 10}, index) for level in (1, 2, 6)]
    figure = figures.training_curves({"run": seeds}, {"run": "#0072b2"}, {})
    axes: Any = figure.axes[0]
    assert set(axes.lines[0].get_ydata()) == {3.0}
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (1.0, 6.0)
    assert not figure.axes[1].lines


def test_the_cover_figure_says_which_metrics_it_needs(tables):
    few = tables.main[tables.main["metric"] != "Cover"]
    with pytest.raises(InputError, match="needs Cover"):
        figures.hallucination_vs_cover(few, "captions", COLOURS, {})


def test_steps_logged_twice_after_a_restart_count_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 3}\n{"step": 2, "loss": 9}\n{"step": 2, "loss": 1}\n')
    assert figures.read_metrics(path)["loss"].to_dict() == {1: 3, 2: 1}
    path.write_text('{"step": 1, "loss": 3}\n{"epoch": 2}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl: line 2"):
        figures.read_metrics(path)
    path.write_text("")
    with pytest.raises(InputError, match="no optimiser step"):
        figures.read_metrics(path)


def test_synthetic_runs_have_the_seeds_they_claim(results):
    assert {run: len(scores) for run, scores in results["captions"].items()} == {
        run: len(seeds) for run, seeds in SEEDS.items()
    }


def test_undefined_metrics_are_dashes_in_the_table():
    item = Item(
        "0", (b"i",), "?", {"kind": "yesno", "object": "x", "label": "no", "setting": "random"}
    )
    scores: Scores = score([item], [{"id": "0", "response": "No."}])
    tables = summarise({"pope": {"base": [scores]}}, {}, seed=0, metrics={"pope": ["precision"]})
    assert "| base | – | 1 |" in markdown(tables, {})


def column(run: str, counts: dict[str, float]) -> dict[str, list[Scores]]:
    """One run's verdicts: each count is the share of items that has it."""
    count = 60
    draw = np.random.default_rng(len(run))
    table = pd.DataFrame({"id": range(count), "image": range(count), "kind": "caption"})
    for name in ("prompt", "response"):
        table[name] = ""
    table["items"], table["objects"], table["mentions"] = 1, 4, 4
    for name, share in counts.items():
        table[name] = (draw.permutation(count) < share * count).astype(int)
    table["covered"] = 4 * table["covered"]
    for name in ("likely", "likely_mentioned", "words", "empty", "hallucinated"):
        table[name] = 1
    return {run: [Scores(table)]}


GOOD = {"hallucinated_answers": 0.2, "covered": 0.8, "unfinished": 0.0}
BASE = {"hallucinated_answers": 0.7, "covered": 0.8, "unfinished": 0.0}


@pytest.mark.parametrize(
    ("rival", "starred"),
    [
        ({**GOOD, "hallucinated_answers": 0.5}, {"run"}),
        # Within the interval of the difference: no star.
        ({**GOOD, "hallucinated_answers": 0.22}, set()),
        # Says little, or never ends: neither starred nor in the way of the one that is.
        ({**GOOD, "hallucinated_answers": 0.0, "covered": 0.3}, {"run"}),
        ({**GOOD, "hallucinated_answers": 0.0, "unfinished": 0.75}, {"run"}),
        # A little less cover is no collapse.
        ({**GOOD, "hallucinated_answers": 0.0, "covered": 0.75}, {"rival"}),
    ],
)
def test_a_star_is_for_a_run_that_is_better_beyond_doubt_and_has_not_collapsed(rival, starred):
    runs = {**column("base", BASE), **column("run", GOOD), **column("rival", rival)}
    bases, metrics = {"run": "base", "rival": "base"}, {"captions": ["CHAIRs"]}
    main = summarise({"captions": runs}, bases, seed=0, metrics=metrics).main
    assert set(main[main["best"]]["run"]) == starred


def test_differences_are_taken_within_a_model():
    bases = {"small-dpo": "small", "large-dpo": "large"}
    shares = {"small": 0.5, "small-dpo": 0.1, "large": 0.95, "large-dpo": 0.6}
    runs: dict[str, list[Scores]] = {}
    for run, share in shares.items():
        runs |= column(run, {**BASE, "hallucinated_answers": share})
    tables = summarise({"captions": runs}, bases, seed=0, metrics={"captions": ["CHAIRs"]})
    means = tables.main.set_index("run")["mean"]
    found = tables.differences.set_index("run")["difference"]
    assert set(found.index) == set(bases)
    for run, base in bases.items():
        assert found[run] == pytest.approx(means[run] - means[base])
    # Worse than anything of the small model, and still the best of its own.
    assert set(tables.main[tables.main["best"]]["run"]) == {"small-dpo", "large-dpo"}
    assert set(
        summarise({"captions": runs}, {}, 0).main.query("best and metric == 'CHAIRs'")["run"]
    ) == {"small-dpo"}
    text = markdown(tables, bases, {"small": "Small"})
    small, large = text.split("Difference to large on the same items")
    assert "| small-dpo |" in small.split("Difference to Small on the same items")[1]
    assert "| large-dpo |" in large
    assert "| small-dpo |" not in large
