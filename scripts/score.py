"""Rule score: the verdict on every answer, and the metrics. Scores any file of answers as well:

python scripts/score.py pope-coco-adversarial --answers answers.jsonl --data FOLDER --output s.json
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

# This script is for people as well, who call it without the workflow's PYTHONPATH.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from pydantic import ValidationError

from mmpref.benchmarks.amber.score import SIMILARITIES
from mmpref.benchmarks.registry import BENCHMARKS, read_answered, used_files, with_images
from mmpref.cli import ending
from mmpref.errors import InputError
from mmpref.progress import say
from mmpref.records.items import read_items
from mmpref.scoring import judge
from mmpref.scoring.answers import read_answers
from mmpref.scoring.resources import Resources
from mmpref.scoring.verdicts import judge_calls, score, summary, write_scores
from mmpref.study.benchmarks import JUDGED, Judge


def main() -> None:
    """Parse the arguments and write metrics and verdicts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", help=f"{', '.join(BENCHMARKS)}; or a name, with --items")
    parser.add_argument(
        "--answers",
        required=True,
        help="as the official scorer takes them, or JSON lines id, response",
    )
    parser.add_argument("--data", type=Path, help="folder with the benchmark's files")
    parser.add_argument("--images", type=Path, help="folder with its images, for a judge of images")
    parser.add_argument("--items", help="the workflow's items.parquet, instead of those in --data")
    parser.add_argument("--public", choices=BENCHMARKS, help="which benchmark those items are of")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    parser.add_argument("--verdicts", type=Path, help="Parquet to write; default: beside --output")
    parser.add_argument("--seed", type=int, default=0, help="for the bootstrap")
    parser.add_argument(
        "--similarity",
        choices=SIMILARITIES,
        default="exact",
        help="AMBER: when a noun counts as another one",
    )
    parser.add_argument("--judge", help="a model's name, or a study's judge as JSON")
    parser.add_argument("--judge-runs", type=int, default=1, help="how often an answer is judged")
    parser.add_argument("--judgements", type=Path, help="what rule judge wrote; nothing is asked")
    parser.add_argument("--dry-run", action="store_true", help="only say what the judge would cost")
    arguments = parser.parse_args()
    about: dict[str, Any] = {}

    if arguments.items:
        items, answers = read_items(arguments.items), read_answers(arguments.answers)
        if arguments.public:
            about["data"] = used_files(BENCHMARKS[arguments.public], arguments.data)
    elif arguments.benchmark not in BENCHMARKS:
        raise InputError(
            f"there is no benchmark {arguments.benchmark!r}; there are {', '.join(BENCHMARKS)}"
        )
    elif not arguments.data:
        raise InputError("--data is missing: the folder with the benchmark's files")
    else:
        benchmark = BENCHMARKS[arguments.benchmark]
        items, answers = read_answered(benchmark, arguments.data, arguments.answers)
        about["data"] = used_files(benchmark, arguments.data)
        if arguments.images:
            items = with_images(items, arguments.images)
    resources = Resources(arguments.data, arguments.similarity)
    if arguments.benchmark in JUDGED and not arguments.judge:
        raise InputError(f"{arguments.benchmark} is scored by a judge model; give --judge")
    if arguments.dry_run and not arguments.judge:
        raise InputError("--dry-run says what a judge would cost; give --judge")
    if arguments.judge:
        resources = replace(resources, judge=True, judge_runs=arguments.judge_runs)
        part = judge_part(arguments.judge)
        if arguments.judgements:
            settings = judge.settings_of(part, asks=False)
            replies = judge.read_replies(arguments.judgements)
        else:
            settings = judge.settings_of(part)
            calls, scorer = judge_calls(items, answers, resources, arguments.answers)
            store = arguments.output.with_suffix(".replies.jsonl")
            if arguments.dry_run:
                say(str(judge.plan(calls, settings, store)))
                return
            replies = judge.by_item(judge.ask(calls, settings, store, scorer.usable, scorer.parse))
        resources = replace(resources, replies=replies)
        flat = [reply for of_item in replies.values() for reply in of_item]
        about["judge"] = {"model": part.model, **judge.totals(flat, settings)}

    scores = score(items, answers, resources, arguments.answers)
    if scores.kind == "amber":
        about["similarity"] = arguments.similarity
    verdicts = arguments.verdicts or arguments.output.with_suffix(".parquet")
    content = write_scores(
        arguments.output, verdicts, scores, arguments.benchmark, arguments.seed, about
    )
    say(summary(content))


def judge_part(text: str) -> Judge:
    """Return the judge that `--judge` names or describes."""
    try:
        return Judge.model_validate_json(text) if text.startswith("{") else Judge(model=text)
    except ValidationError as error:
        mistakes = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
        )
        raise InputError(f"--judge: {mistakes}") from None


if __name__ == "__main__":
    ending(main)
