"""The report: one HTML file with everything in it, that opens without a network."""

import base64
import difflib
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
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
from mmpref.reporting.tables import Results, Tables, interval, metric_parts, number
from mmpref.scoring.metric import READINGS
from mmpref.scoring.verdicts import Scores

_FOLDER = Path(__file__).parent
# Photographs are shrunk to this side; smaller images stay as they are, enlarged by the browser.
_MAX_SIDE = 360
_PAIRS = 6


@dataclass(frozen=True)
class Figures:
    """SVG elements (`figures.svg`): hallucination against cover by benchmark, and two more."""

    cover: Mapping[str, str] = field(default_factory=dict)
    training: str | None = None
    sampling: str | None = None


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
    base: str,
    results: Results,
    tables: Tables,
    items: Mapping[str, Sequence[Item]],
    colours: Mapping[str, str],
    labels: Mapping[str, str],
    figures: Figures,
    sampled: Mapping[str, Sampled],
    study: str,
    versions: Mapping[str, str],
    gallery: int = 36,
    failures: int = 100,
) -> None:
    """Write the report page to `path`; equal input gives equal bytes.

    `results` and `tables` are those of `reporting.tables`, `items` the items of each benchmark in
    them; runs are shown in the order of `results`, with `colours` and `labels` (default: the
    run's name). The gallery shows `gallery` items, spread over the benchmarks and drawn with
    `seed`, the study's; it shows the answers of each run's first training seed. Of those that are
    flawed or hard to judge up to `failures` are listed, drawn in the same way. `study` is the
    study file's text, `versions` what it ran with. Whatever is empty or None has no section.
    Raises InputError when an image that is to be shown cannot be read.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    runs = list(dict.fromkeys(run for benchmark in results.values() for run in benchmark))
    text = environment.get_template("page.html.jinja").render(
        title=title,
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup((_FOLDER / "page.js").read_text(encoding="utf-8")),
        base=labels.get(base, base),
        runs=[{"name": run, "label": labels.get(run, run), "colour": colours[run]} for run in runs],
        summary=_summary(tables, results, base, labels),
        benchmarks=[
            _benchmark(name, scores, tables, base, labels, colours)
            for name, scores in results.items()
        ],
        cover={name: _inline(f"cover-{name}", svg) for name, svg in figures.cover.items()},
        training=figures.training and _inline("training", figures.training),
        sampling=figures.sampling and _inline("sampling", figures.sampling),
        sampled={name: _sampled(name, entry, seed) for name, entry in sampled.items()},
        gallery=_gallery(results, items, labels, colours, seed, gallery),
        failures=_failures(results, labels, colours, seed, failures),
        study=study,
        versions=versions,
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _summary(tables: Tables, results: Results, base: str, labels: Mapping[str, str]) -> str | None:
    """Return the main result in a sentence: the first metric of the first benchmark.

    A model that says less hallucinates less: runs that cover significantly less of what is there
    than the base do not count.
    """
    all_differences = tables.differences.set_index(["run", "benchmark", "metric"])
    for benchmark, runs in results.items():
        rows = tables.main[tables.main["benchmark"] == benchmark]
        metric = rows["metric"].iloc[0]
        better = next(iter(runs.values()))[0].metrics[metric].better
        rows = rows[rows["metric"] == metric].dropna(subset="mean").set_index("run")
        if better is None or base not in rows.index or len(rows) < 2:
            continue
        reading = metric[: metric.rfind("/") + 1]
        covering_less = [
            run
            for run in rows.index
            for cover in (f"{reading}Cover", f"{reading}Recall")
            if (run, benchmark, cover) in all_differences.index
            and all_differences.loc[(run, benchmark, cover), "high"] < 0
        ]
        rows = rows.drop(index=covering_less)
        best = rows["mean"].idxmin() if better == "lower" else rows["mean"].idxmax()
        start = rows.loc[base]
        reached = f"{number(start['mean'])} {interval(start['low'], start['high'])}"
        if best == base:
            without = " without covering less" if covering_less else ""
            return (
                f"On {benchmark}, no run beats {labels.get(base, base)}{without}: "
                f"{metric} {reached}."
            )
        row = rows.loc[best]
        difference = all_differences.loc[(best, benchmark, metric)]
        among = " of all runs that cover no less" if covering_less else ""
        return (
            f"On {benchmark}, {labels.get(best, best)} has the "
            f"{'lowest' if better == 'lower' else 'highest'} {metric}{among}: "
            f"{number(row['mean'])} {interval(row['low'], row['high'])} against {reached} for "
            f"{labels.get(base, base)}; "
            f"difference on the same items {number(difference['difference'], signed=True)} "
            f"{interval(difference['low'], difference['high'], signed=True)}."
        )
    return None


def _benchmark(
    name: str,
    runs: Mapping[str, list[Scores]],
    tables: Tables,
    base: str,
    labels: Mapping[str, str],
    colours: Mapping[str, str],
) -> dict[str, Any]:
    """Return what the template needs for the tables of one benchmark."""
    rows = tables.main[tables.main["benchmark"] == name]
    differences = tables.differences[tables.differences["benchmark"] == name]
    known = next(iter(runs.values()))[0].metrics
    parts = metric_parts(rows["metric"])
    by_place = rows.set_index(["run", "metric"])
    by_difference = differences.set_index(["run", "metric"])
    # Of each reading the first part is shown, the others on demand.
    shown = {next(iter(parts))}
    for reading in ("", *READINGS):
        shown |= set([part for part in parts if part.partition("/")[0] == reading][:1])
    meanings: dict[str, str] = {}
    for part in parts:
        for metric in parts[part] if part in shown else []:
            meanings.setdefault(metric.rpartition("/")[2], known[metric].meaning)
    readings = bool({part.partition("/")[0] for part in parts} & READINGS.keys())
    return {
        "name": name,
        "size": int(rows["items"].iloc[0]),
        "compared": base in runs and len(runs) > 1,
        "meanings": meanings,
        "parts": [
            {
                "name": part or ("agreement" if readings else ""),
                "shown": part in shown,
                "hint": READINGS.get(part.partition("/")[0]) if part else "of the two readings",
                "columns": [metric.rpartition("/")[2] for metric in metrics],
                "better": [known[metric].better for metric in metrics],
                "rows": [
                    {
                        "label": labels.get(run, run),
                        "colour": colours[run],
                        "seeds": int(by_place.loc[(run, metrics[0]), "seeds"]),
                        "cells": [
                            _cell(
                                by_place.loc[(run, metric)],
                                by_difference.loc[(run, metric)]
                                if (run, metric) in by_difference.index
                                else None,
                                rows[rows["metric"] == metric],
                            )
                            for metric in metrics
                        ],
                    }
                    for run in runs
                ],
            }
            for part, metrics in parts.items()
        ],
    }


def _cell(row: pd.Series, difference: pd.Series | None, column: pd.DataFrame) -> dict[str, Any]:
    """Return one cell of the main table; `column` holds the metric's rows of all runs."""
    cell: dict[str, Any] = {"mean": number(row["mean"]), "interval": None, "best": False}
    cell["difference"] = None
    if math.isnan(row["mean"]):
        return cell
    # Shares are drawn on a scale from 0 to 1, anything else up to the largest.
    scale = max(1.0, float(column["high"].max()))
    cell["interval"] = interval(row["low"], row["high"])
    cell["start"] = round(100 * row["low"] / scale, 2)
    cell["length"] = round(100 * (row["high"] - row["low"]) / scale, 2)
    cell["point"] = round(100 * row["mean"] / scale, 2)
    cell["best"] = bool(row["best"])
    if difference is not None and not math.isnan(difference["difference"]):
        cell["difference"] = number(difference["difference"], signed=True)
        cell["difference_interval"] = interval(difference["low"], difference["high"], signed=True)
        cell["certain"] = bool(difference["low"] > 0 or difference["high"] < 0)
    return cell


def _sampled(name: str, entry: Sampled, seed: int) -> dict[str, Any]:
    """Return a few pairs drawn at random, with the words that differ between their answers."""
    draw = generator(seed, "report", "pairs", name)
    drawn = draw.permutation(len(entry.pairs))[:_PAIRS]
    return {
        "count": entry.statistics["pairs"],
        "pairs": [
            {
                "id": pair.id,
                "images": [_picture(image, f"{name}: pair {pair.id!r}") for image in pair.images],
                "prompt": pair.prompt,
                "chosen": _changed(pair.chosen, pair.rejected),
                "rejected": _changed(pair.rejected, pair.chosen),
                "facts": list(_facts(pair)),
            }
            for pair in (entry.pairs[index] for index in sorted(drawn))
        ],
    }


def _facts(pair: Pair) -> Iterator[str]:
    """Yield in words how a rejected answer was sampled."""
    record = pair.meta.get("bdhs", {})
    if "iteration" in record:
        yield f"iteration {record['iteration']}{' (free)' if record.get('free') else ''}"
    if "similarity" in record:
        yield f"similarity {number(record['similarity'])}"


def _gallery(
    results: Results,
    items: Mapping[str, Sequence[Item]],
    labels: Mapping[str, str],
    colours: Mapping[str, str],
    seed: int,
    size: int,
) -> list[dict[str, Any]]:
    """Return the cards of the gallery: for each drawn item every run's answer."""
    cards = []
    shares = _shares({benchmark: len(items[benchmark]) for benchmark in results}, size)
    for benchmark, runs in results.items():
        ids = [item.id for item in items[benchmark]]
        draw = generator(seed, "report", "gallery", benchmark)
        drawn = draw.permutation(len(ids))[: shares[benchmark]]
        verdicts = {
            run: scores[0].table.set_index("id").loc[[ids[place] for place in drawn]]
            for run, scores in runs.items()
        }
        for place in sorted(drawn):
            item = items[benchmark][place]
            rows = {run: table.loc[item.id] for run, table in verdicts.items()}
            outcomes = {_outcome(row) for row in rows.values()}
            cards.append(
                {
                    "benchmark": benchmark,
                    "id": item.id,
                    "prompt": item.prompt,
                    "images": [
                        _picture(image, f"{benchmark}: item {item.id!r}") for image in item.images
                    ],
                    "truth": next(iter(rows.values()))["expected"],
                    "differs": len(outcomes) > 1,
                    "answers": [
                        {
                            "run": run,
                            "label": labels.get(run, run),
                            "colour": colours[run],
                            "pieces": list(_pieces(row)),
                            **_verdict(row),
                        }
                        for run, row in rows.items()
                    ],
                }
            )
    return cards


def _failures(
    results: Results,
    labels: Mapping[str, str],
    colours: Mapping[str, str],
    seed: int,
    size: int,
) -> list[dict[str, Any]]:
    """Return for each benchmark and run how many answers to look at there are, and `size` of them.

    These are the flawed ones, those that could not be judged, and those about which the readings
    differ.
    """
    found = []
    for benchmark, runs in results.items():
        for run, scores in runs.items():
            table = scores[0].table
            marked = table["flawed"].astype(bool)
            for column in table.columns.intersection(["unparsed", "differs"]):
                marked |= table[column] > 0
            flawed = table[marked]
            draw = generator(seed, "report", "failures", benchmark, run)
            drawn = sorted(draw.permutation(len(flawed))[:size])
            found.append(
                {
                    "benchmark": benchmark,
                    "run": run,
                    "label": labels.get(run, run),
                    "colour": colours[run],
                    "count": len(flawed),
                    "size": len(table),
                    "rows": [
                        {
                            "id": row["id"],
                            "prompt": row["prompt"],
                            "pieces": list(_pieces(row)),
                            "note": row["note"],
                            "expected": row["expected"],
                        }
                        for _, row in flawed.iloc[drawn].iterrows()
                    ],
                }
            )
    return [entry for entry in found if entry["rows"]]


def _shares(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Return how many of `total` each gets: equal parts, and what the small leave to the others."""
    shares: dict[str, int] = {}
    for name in sorted(sizes, key=lambda name: sizes[name]):
        left = total - sum(shares.values())
        shares[name] = min(sizes[name], left // (len(sizes) - len(shares)))
    return shares


def _outcome(row: pd.Series) -> tuple[str, ...]:
    """Return what has to be equal for two answers to count as the same."""
    mentions = [*_mentions(row, "hallucinated"), *_mentions(row, "grounded")]
    if mentions:
        return tuple(sorted({mention["name"] for mention in mentions}))
    return (row["note"], "" if row["note"] else row["response"])


def _verdict(row: pd.Series) -> dict[str, Any]:
    """Return whether an answer has something wrong in it, and a word about it where one helps."""
    mark = "✗" if row["flawed"] else "✓"
    return {"flawed": bool(row["flawed"]), "note": f"{mark} {row['note']}" if row["note"] else None}


def _mentions(row: pd.Series, kind: str) -> list[dict[str, Any]]:
    found = row.get(f"{kind}_mentions")
    return list(found) if isinstance(found, list) else []


def _pieces(row: pd.Series) -> Iterator[tuple[str, str | None]]:
    """Yield the response in pieces: a text, and its mark (`hallucinated`, `grounded` or None)."""
    text, end = row["response"], 0
    marks = [
        (mention["start"], mention["end"], kind)
        for kind in ("hallucinated", "grounded")
        for mention in _mentions(row, kind)
    ]
    for start, stop, kind in sorted(marks):
        yield text[end:start], None
        yield text[start:stop], kind
        end = stop
    yield text[end:], None


def _changed(text: str, other: str) -> list[tuple[str, str | None]]:
    """Return `text` in pieces; those missing from `other` are marked `changed`."""
    words, others = re.findall(r"\S+\s*", text), re.findall(r"\S+\s*", other)
    matcher = difflib.SequenceMatcher(
        None, [word.strip() for word in words], [word.strip() for word in others], autojunk=False
    )
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
    file = io.BytesIO()
    if small:
        image.save(file, "PNG", optimize=True)
    else:
        image.thumbnail((_MAX_SIDE, _MAX_SIDE), Image.Resampling.LANCZOS)
        image.save(file, "JPEG", quality=80)
    kind = "png" if small else "jpeg"
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
