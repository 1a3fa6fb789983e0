"""The report: one HTML file with everything in it, that opens without a network."""

import base64
import difflib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup
from PIL import Image

from mmpref.errors import InputError
from mmpref.files import replacing
from mmpref.randomness import generator
from mmpref.records.images import open_image
from mmpref.records.items import Item, load_image
from mmpref.records.rows import Pair
from mmpref.reporting.sources import Source
from mmpref.reporting.tables import (
    Results,
    Tables,
    by_base,
    interval,
    metric_parts,
    number,
    with_interval,
)
from mmpref.scoring.metric import READINGS
from mmpref.scoring.verdicts import Scores
from mmpref.study.published import Comparison

_FOLDER = Path(__file__).parent
# Photographs are shrunk to this side; smaller images stay as they are, enlarged by the browser.
_MAX_SIDE = 360
_PAIRS = 6


@dataclass(frozen=True)
class Figures:
    """SVG elements (`figures.svg`): hallucination against cover by benchmark, and others."""

    cover: Mapping[str, str] = field(default_factory=dict)
    training: Sequence[str] = ()
    sampling: Sequence[str] = ()


@dataclass(frozen=True)
class Sampled:
    """Sampled preferences: the content of their `statistics.json`, and their pairs."""

    statistics: Mapping[str, Any]
    pairs: Sequence[Pair]


def write_page(
    path: str | Path,
    *,
    title: str,
    seed: int,
    bases: Mapping[str, str],
    results: Results,
    tables: Tables,
    items: Mapping[str, Sequence[Item]],
    colours: Mapping[str, str],
    labels: Mapping[str, str],
    figures: Figures,
    sampled: Mapping[str, Sampled],
    study: str,
    versions: Mapping[str, str],
    sources: Sequence[Source] = (),
    published: tuple[pd.DataFrame, Comparison] | None = None,
    kept_out: Mapping[str, Mapping[str, int]] | None = None,
    gallery: int = 36,
    failures: int = 100,
) -> None:
    """Write the report page to `path`; equal input gives equal bytes.

    `results` and `tables` are those of `reporting.tables`, made with `bases`; `items` are the
    items of each benchmark in them. Runs are shown by base and in the order of `results`, with
    `colours` and `labels` (default: the run's name). The gallery shows `gallery` items, spread
    over the benchmarks and drawn with `seed`, the study's; it shows the answers of each run's
    first training seed. Of those that are flawed or hard to judge up to `failures` are listed,
    drawn in the same way. `study` is the study file's text, `versions` what it ran with, `sources`
    what went in from elsewhere; `published` is the table of `reporting.published` with what is
    said about it. `kept_out` has `pairs` of run.json of the runs for which the model could not be
    given some. Whatever is empty or None has no section.
    Raises InputError when an image that is to be shown cannot be read.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(number=number, interval=interval)
    runs = list(dict.fromkeys(run for benchmark in results.values() for run in benchmark))
    labels = {run: labels.get(run, run) for run in runs}
    text = environment.get_template("page.html.jinja").render(
        title=title,
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup((_FOLDER / "page.js").read_text(encoding="utf-8")),
        bases=[base for base in by_base(runs, bases) if base in runs],
        runs=runs,
        labels=labels,
        colours=colours,
        summary=_summary(tables, results, bases, labels),
        benchmarks=[_benchmark(name, scores, tables, bases) for name, scores in results.items()],
        cells=_cells(tables),
        cover={name: _inline(f"cover-{name}", svg) for name, svg in figures.cover.items()},
        training=[_inline(f"training-{i}", svg) for i, svg in enumerate(figures.training)],
        sampling=[_inline(f"sampling-{i}", svg) for i, svg in enumerate(figures.sampling)],
        sampled={name: _sampled(name, entry, seed) for name, entry in sampled.items()},
        gallery=_gallery(results, items, seed, gallery),
        failures=_failures(results, seed, failures),
        sources=sources,
        published=published and _published(*published),
        kept_out=kept_out,
        study=study,
        versions=versions,
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _summary(
    tables: Tables, results: Results, bases: Mapping[str, str], labels: Mapping[str, str]
) -> str:
    """Return the main result: of the first benchmark the first metric, a sentence for each base."""
    for benchmark, runs in results.items():
        metric = tables.main.loc[tables.main["benchmark"] == benchmark, "metric"].iloc[0]
        better = next(iter(runs.values()))[0].metrics[metric].better
        found = [
            _sentence(tables, benchmark, metric, better, base, group, labels)
            for base, group in by_base(runs, bases).items()
            if base in group and len(group) > 1 and better
        ]
        if any(found):
            return " ".join(filter(None, found))
    return ""


def _sentence(
    tables: Tables,
    benchmark: str,
    metric: str,
    better: str,
    base: str,
    group: Sequence[str],
    labels: Mapping[str, str],
) -> str | None:
    """Return which run of a group is the best in a metric; None where too little is known.

    A model that says less hallucinates less: runs that cover significantly less of what is there
    than the base do not count.
    """
    rows, changes = (
        table[(table["benchmark"] == benchmark) & table["run"].isin(group)]
        for table in (tables.main, tables.differences)
    )
    rows = rows[rows["metric"] == metric].dropna(subset="mean").set_index("run")
    if base not in rows.index or len(rows) < 2:
        return None
    reading = metric[: metric.rfind("/") + 1]
    covers = changes["metric"].isin([f"{reading}Cover", f"{reading}Recall"])
    covers_less = rows.index.isin(changes.loc[covers & (changes["high"] < 0), "run"])
    reached = with_interval(rows.loc[base])
    rows = rows[~covers_less]
    best = rows["mean"].idxmin() if better == "lower" else rows["mean"].idxmax()
    if best == base:
        without = " without covering less" if covers_less.any() else ""
        return f"On {benchmark}, no run beats {labels[base]}{without}: {metric} {reached}."
    among = " of all runs that cover no less" if covers_less.any() else ""
    difference = changes.set_index(["run", "metric"]).loc[(best, metric)]
    return (
        f"On {benchmark}, {labels[best]} has the "
        f"{'lowest' if better == 'lower' else 'highest'} {metric}{among}: "
        f"{with_interval(rows.loc[best])} against {reached} for {labels[base]}; "
        f"difference on the same items {with_interval(difference, 'difference')}."
    )


def _cells(tables: Tables) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the rows of the main table by benchmark, run and metric, with their differences."""
    place = ["benchmark", "run", "metric"]
    cells = tables.main.merge(tables.differences, "left", place, suffixes=("", "_difference"))
    # Shares are drawn on a scale from 0 to 1, anything else up to the largest.
    largest = cells.groupby(["benchmark", "metric"])["high"].transform("max")
    scale = largest.fillna(1).clip(lower=1)
    cells = cells.assign(
        known=cells["mean"].notna(),
        compared=cells["difference"].notna(),
        certain=(cells["low_difference"] > 0) | (cells["high_difference"] < 0),
        start=100 * cells["low"] / scale,
        length=100 * (cells["high"] - cells["low"]) / scale,
        point=100 * cells["mean"] / scale,
    )
    return cells.set_index(place).to_dict("index")


def _benchmark(
    name: str, runs: Mapping[str, list[Scores]], tables: Tables, bases: Mapping[str, str]
) -> dict[str, Any]:
    """Return what the template needs for the tables of one benchmark, besides their cells."""
    rows = tables.main[tables.main["benchmark"] == name]
    known = next(iter(runs.values()))[0].metrics
    parts = metric_parts(rows["metric"])
    reading_of = {part: part.partition("/")[0] for part in parts}
    # Of each reading the first part is shown, the others on demand.
    first = {reading_of[part]: part for part in reversed(parts)}
    shown = {next(iter(parts)), *(first[one] for one in ("", *READINGS) if one in first)}
    meanings: dict[str, str] = {}
    for part, metrics in parts.items():
        for metric in metrics if part in shown else []:
            meanings.setdefault(metric.rpartition("/")[2], known[metric].meaning)
    agreement = "agreement" if READINGS.keys() & first.keys() else ""
    return {
        "name": name,
        "size": rows["items"].iloc[0],
        "groups": by_base(runs, bases),
        "compared": any(bases.get(run) in runs for run in runs),
        "meanings": meanings,
        "parts": [
            {
                "name": part or agreement,
                "shown": part in shown,
                "hint": READINGS.get(reading_of[part]) if part else "of the two readings",
                "better": {metric: known[metric].better for metric in metrics},
            }
            for part, metrics in parts.items()
        ],
    }


def _published(rows: pd.DataFrame, comparison: Comparison) -> dict[str, Any]:
    """Return what the template needs to show published values beside own ones."""
    return {
        "said": comparison,
        "benchmarks": {
            str(benchmark): of_one.to_dict("records")
            for benchmark, of_one in rows.groupby("benchmark", sort=False)
        },
    }


def _drawn(seed: int, *keys: str, total: int, size: int) -> list[int]:
    """Return up to `size` places out of `total`, drawn at random, in order."""
    return sorted(generator(seed, "report", *keys).permutation(total)[:size].tolist())


def _sampled(name: str, entry: Sampled, seed: int) -> dict[str, Any]:
    """Return a few pairs drawn at random, with the words that differ between their answers."""
    places = _drawn(seed, "pairs", name, total=len(entry.pairs), size=_PAIRS)
    return {
        "count": entry.statistics["pairs"],
        "unfinished": entry.statistics["unfinished"],
        "pairs": [
            {
                "pair": pair,
                "images": [_picture(image, f"{name}: pair {pair.id!r}") for image in pair.images],
                "chosen": _changed(pair.chosen, pair.rejected),
                "rejected": _changed(pair.rejected, pair.chosen),
            }
            for pair in (entry.pairs[place] for place in places)
        ],
    }


def _gallery(
    results: Results, items: Mapping[str, Sequence[Item]], seed: int, size: int
) -> list[dict[str, Any]]:
    """Return the cards of the gallery: for each drawn item every run's answer."""
    cards = []
    shares = _shares({benchmark: len(items[benchmark]) for benchmark in results}, size)
    for benchmark, runs in results.items():
        tables = {run: scores[0].table.set_index("id") for run, scores in runs.items()}
        total, share = len(items[benchmark]), shares[benchmark]
        for place in _drawn(seed, "gallery", benchmark, total=total, size=share):
            item = items[benchmark][place]
            answers = {run: _answer(table.loc[item.id].to_dict()) for run, table in tables.items()}
            what = f"{benchmark}: item {item.id!r}"
            cards.append(
                {
                    "benchmark": benchmark,
                    "item": item,
                    "images": [_picture(image, what) for image in item.images],
                    "differs": len({answer["outcome"] for answer in answers.values()}) > 1,
                    "answers": answers,
                }
            )
    return cards


def _failures(results: Results, seed: int, size: int) -> list[dict[str, Any]]:
    """Return for each benchmark and run how many answers to look at there are, and `size` of them.

    These are the flawed ones, those that could not be judged, and those about which the readings
    differ.
    """
    found = []
    for benchmark, runs in results.items():
        for run, scores in runs.items():
            table = scores[0].table
            reasons = table.columns.intersection(["flawed", "unparsed", "differs"])
            flawed = table[(table[reasons] > 0).any(axis=1)]
            places = _drawn(seed, "failures", benchmark, run, total=len(flawed), size=size)
            rows = [_answer(row) for row in flawed.iloc[places].to_dict("records")]
            counts = {"count": len(flawed), "size": len(table)}
            found.append({"benchmark": benchmark, "run": run, "rows": rows, **counts})
    return [entry for entry in found if entry["rows"]]


def _shares(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Return how many of `total` each gets: equal parts, and what the small leave to the others."""
    shares: dict[str, int] = {}
    for name in sorted(sizes, key=lambda name: sizes[name]):
        left = total - sum(shares.values())
        shares[name] = min(sizes[name], left // (len(sizes) - len(shares)))
    return shares


def _answer(row: dict[Any, Any]) -> dict[Any, Any]:
    """Return a verdict, its response in `pieces` (texts and their marks), and its `outcome`.

    A mark is `hallucinated`, `grounded` or None. Two answers with equal outcomes count as the same.
    """
    marks = sorted(
        (mention["start"], mention["end"], kind, mention["name"])
        for kind in ("hallucinated", "grounded")
        for mention in row.get(f"{kind}_mentions", [])
    )
    text, note = row["response"], row["note"]
    pieces, end = [], 0
    for start, stop, kind, _ in marks:
        pieces += [(text[end:start], None), (text[start:stop], kind)]
        end = stop
    outcome = tuple(sorted({name for *_, name in marks})) or (note, "" if note else text)
    return {**row, "pieces": [*pieces, (text[end:], None)], "outcome": outcome}


def _changed(text: str, other: str) -> list[tuple[str, str | None]]:
    """Return `text` in pieces; those missing from `other` are marked `changed`."""
    words = re.findall(r"\S+\s*", text)
    matcher = difflib.SequenceMatcher(None, text.split(), other.split(), autojunk=False)
    return [
        ("".join(words[start:stop]), None if kind == "equal" else "changed")
        for kind, start, stop, _, _ in matcher.get_opcodes()
        if stop > start
    ]


def _picture(data: bytes | Path, what: str) -> dict[str, Any]:
    """Return an image as a data URI with its size in pixels."""
    try:
        image = open_image(load_image(data))
    except InputError as error:
        raise InputError(f"{what}: its image {error}; make the file again") from None
    small = max(image.size) <= _MAX_SIDE
    kind, options = ("png", {"optimize": True}) if small else ("jpeg", {"quality": 80})
    image.thumbnail((_MAX_SIDE, _MAX_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return {
        "uri": f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}",
        "width": image.width,
        "height": image.height,
        "pixelated": max(image.size) <= _MAX_SIDE // 2,
    }


def _inline(name: str, svg: str) -> Markup:
    """Return an SVG element whose ids are unique on the page."""
    prefix = re.sub(r"\W", "-", name)
    return Markup(re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", svg))
