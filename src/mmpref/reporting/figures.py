"""Figures as SVG that is equal for equal input and follows the text colour of a page."""

import io
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, cycle
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from mmpref.errors import InputError

# Okabe and Ito's colours, that people with any colour vision tell apart; grey first, for the
# model that the others start from. Their yellow is left out: it is too faint on white.
PALETTE = ("#7a7a7a", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# Stands for the colour of text while matplotlib draws; in the SVG it becomes `currentColor`.
_INK = "#010203"
_INKED = (
    "text.color",
    "axes.edgecolor",
    "axes.labelcolor",
    "xtick.color",
    "ytick.color",
    "grid.color",
)
# The keys' type is a list of all settings that matplotlib has; hence Any.
_STYLE: dict[Any, Any] = {
    **dict.fromkeys(_INKED, _INK),
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.12,
    "legend.frameon": False,
    # Makes the ids of clip paths and markers equal from run to run.
    "svg.hashsalt": "mmpref",
}
_CURVES = (
    ("Loss", {"loss": "-"}),
    ("Reward margin", {"rewards/margin": "-"}),
    ("Reward accuracy", {"rewards/accuracy": "-"}),
    ("Log-probability (dashed: rejected)", {"logps/chosen": "-", "logps/rejected": "--"}),
)


def palette(runs: Sequence[str], colours: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a colour for each run: the one in `colours`, or the next of PALETTE still free."""
    given = colours or {}
    taken = {given[run].lower() for run in runs if run in given}
    free = cycle([colour for colour in PALETTE if colour not in taken] or PALETTE)
    return {run: given.get(run) or next(free) for run in runs}


def pieces(names: Iterable[str]) -> Iterator[list[str]]:
    """Yield the names that a figure shows, so few that each has a colour of its own."""
    left, most = list(names), len(PALETTE) - 1
    while left:
        yield left[:most]
        left = left[most:]


def read_metrics(path: str | Path) -> pd.DataFrame:
    """Return a run's training metrics, one row per optimiser step, indexed by step.

    Raises InputError naming the line that is not a JSON object with a step.
    """
    rows = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                # A run that was continued may have logged its last steps twice; the later count.
                rows[row["step"]] = row
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path}: line {number}: is not a JSON object with a step ({error}); "
                    "train again"
                ) from None
    if not rows:
        raise InputError(f"{path}: holds no optimiser step; train again")
    return pd.DataFrame(rows.values()).set_index("step").sort_index()


def training_curves(
    runs: Mapping[str, Sequence[pd.DataFrame]],
    colours: Mapping[str, str],
    labels: Mapping[str, str],
) -> Figure:
    """Return loss, reward margin, accuracy and log-probabilities over the steps of each run.

    `runs` holds what `read_metrics` returns for each seed. A line is the mean over seeds of
    running means over 1/30 of the steps, the band around it the range of the seeds.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 5.6), layout="constrained")
        for axes, (title, styles) in zip(figure.subplots(2, 2).flat, _CURVES, strict=True):
            for run, seeds in runs.items():
                for column, style in styles.items():
                    _curve(axes, seeds, column, style, colours[run])
            axes.set_title(title)
            axes.set_xlabel("optimiser step")
            axes.margins(x=0.01)
        _legend(figure, runs, colours, labels)
    return figure


def hallucination_vs_cover(
    main: pd.DataFrame,
    benchmark: str,
    colours: Mapping[str, str],
    labels: Mapping[str, str],
) -> Figure:
    """Return CHAIRs and CHAIRi against Cover, a point with both intervals for each run.

    `main` is the main table. Raises InputError when it lacks these metrics for `benchmark`.
    """
    rows = main[main["benchmark"] == benchmark]
    if missing := {"CHAIRs", "CHAIRi", "Cover"} - set(rows["metric"]):
        raise InputError(
            f"table.metrics.{benchmark}: the figure of hallucination against cover needs "
            f"{', '.join(sorted(missing))}"
        )
    # The mean over seeds may lie outside of a percentile interval by a rounding error.
    reach = {
        "below": (rows["mean"] - rows["low"]).clip(lower=0),
        "above": (rows["high"] - rows["mean"]).clip(lower=0),
    }
    points = rows.assign(**reach).set_index(["run", "metric"])
    runs = rows["run"].unique()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        for axes, metric in zip(figure.subplots(1, 2), ("CHAIRs", "CHAIRi"), strict=True):
            for run, marker in zip(runs, _markers(), strict=False):
                cover, rate = points.loc[(run, "Cover")], points.loc[(run, metric)]
                axes.errorbar(
                    cover["mean"],
                    rate["mean"],
                    xerr=[[cover["below"]], [cover["above"]]],
                    yerr=[[rate["below"]], [rate["above"]]],
                    fmt=marker,
                    color=colours[run],
                    markersize=7,
                    capsize=3,
                )
            axes.set_title(f"{metric} against Cover")
            axes.set_xlabel("Cover (more is better)")
            axes.set_ylabel(f"{metric} (less is better)")
            axes.margins(0.12)
            axes.annotate(
                "better",
                (0.98, 0.03),
                (0.86, 0.13),
                xycoords="axes fraction",
                textcoords="axes fraction",
                ha="center",
                alpha=0.6,
                arrowprops={"arrowstyle": "->", "color": _INK, "alpha": 0.6},
            )
        _legend(figure, runs, colours, labels, _markers())
    return figure


def sampling_statistics(statistics: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Return how rejected answers were found, for each named set of sampled preferences.

    `statistics` holds the content of `statistics.json`: iterations until an answer diverged,
    similarity of the rejected answer to the chosen one, both as shares of the pairs, and, where
    it is known, the mean number of hallucinated objects in a chosen and in a rejected answer.
    """
    known = {name: entry.get("hallucinated_per_answer") for name, entry in statistics.items()}
    colours = dict(zip(statistics, cycle(PALETTE[1:])))
    free = []
    with matplotlib.rc_context(_STYLE):
        panels = 3 if any(known.values()) else 2
        figure = Figure(figsize=(3 * panels + 1, 3.4), layout="constrained")
        iterations, similarity, *hallucination = figure.subplots(1, panels)
        for index, (name, entry) in enumerate(statistics.items()):
            place, pairs = (index, len(statistics), colours[name]), max(entry["pairs"], 1)
            shares = {int(key): count / pairs for key, count in entry["iterations"].items()}
            _bars(iterations, dict(sorted(shares.items())), *place)
            _histogram(similarity, entry["similarity"], colours[name], fill=len(statistics) == 1)
            free.append(f"{entry['free'] / pairs:.0%} free")
            if objects := known[name]:
                means = {key: objects[key] for key in ("chosen", "rejected")}
                _bars(hallucination[0], means, *place)
        iterations.set(
            title="Iterations",
            xlabel=textwrap.fill(f"iterations to divergence ({', '.join(free)})", 48),
            ylabel="share of pairs",
        )
        similarity.set(title="Similarity", xlabel="similarity of rejected to chosen")
        for axes in hallucination:
            axes.set(title="Hallucination", xlabel="hallucinated objects per answer")
        if len(statistics) > 1:
            _legend(figure, statistics, colours, {})
    return figure


def svg(figure: Figure) -> str:
    """Return a figure as an SVG element: equal figures give equal text, without date or version.

    Text stays text, in the font and colour of the page around it.
    """
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context(_STYLE):
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = file.getvalue()
    element = text[text.index("<svg") :].replace(_INK, "currentColor")
    # Its only content would be addresses of vocabularies that nobody reads.
    return re.sub(r"\s*<metadata>.*?</metadata>", "", element, flags=re.DOTALL)


def _markers() -> Iterator[str]:
    """Yield a marker for each run, such that runs with the same colour have different ones."""
    for turn in count():
        yield MARKERS[(turn + turn // len(PALETTE)) % len(MARKERS)]


def _curve(axes: Axes, seeds: Sequence[pd.DataFrame], column: str, style: str, colour: str) -> None:
    logged = [seed[column].dropna() for seed in seeds if column in seed]
    if not logged:
        return
    windows = [max(1, round(len(values) / 30)) for values in logged]
    means = [
        values.rolling(window, min_periods=1).mean()
        for values, window in zip(logged, windows, strict=True)
    ]
    smooth = pd.concat(means, axis=1, join="inner")
    axes.plot(smooth.index, smooth.mean(axis=1), style, color=colour, linewidth=1.6)
    if len(logged) > 1:
        lowest, highest = smooth.min(axis=1), smooth.max(axis=1)
        axes.fill_between(smooth.index, lowest, highest, color=colour, alpha=0.18, linewidth=0)


def _bars(axes: Axes, heights: Mapping[Any, float], index: int, groups: int, colour: str) -> None:
    """Draw a bar for each key; those of the `groups` sets of bars stand side by side."""
    width = 0.8 / groups
    # Keys that are numbers stand where they belong, others one after the other.
    numbers = all(isinstance(key, int) for key in heights)
    places = np.array(list(heights) if numbers else range(len(heights)), float)
    places += (index - (groups - 1) / 2) * width
    axes.bar(places, list(heights.values()), width, color=colour)
    axes.grid(axis="x", visible=False)
    if numbers:
        axes.xaxis.set_major_locator(MultipleLocator(1))
    else:
        axes.set_xticks(range(len(heights)), list(heights))


def _histogram(axes: Axes, bins: Mapping[str, Sequence[float]], colour: str, fill: bool) -> None:
    """Draw counts between edges as shares, without the empty bins at both ends."""
    counts = np.asarray(bins["counts"], float)
    filled = np.flatnonzero(counts)
    if filled.size:
        first, end = filled[0], filled[-1] + 1
        shares = counts[first:end] / counts.sum()
        axes.stairs(shares, bins["edges"][first : end + 1], color=colour, fill=fill, linewidth=1.5)


def _legend(
    figure: Figure,
    runs: Iterable[str],
    colours: Mapping[str, str],
    labels: Mapping[str, str],
    markers: Iterable[str | None] = cycle([None]),
) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=colours[run],
            marker=marker,
            linestyle="none" if marker else "-",
            linewidth=3,
            label=labels.get(run, run),
        )
        for run, marker in zip(runs, markers, strict=False)
    ]
    # In a row if there is room, else in columns.
    widths = [len(str(handle.get_label())) + 8 for handle in handles]
    columns = len(handles) if sum(widths) <= 120 else max(1, 120 // max(widths))
    figure.legend(handles=handles, loc="outside upper left", ncols=max(columns, 1))
