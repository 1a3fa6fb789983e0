"""Rule judge: a judge model's replies about a model's answers, or what they will take."""

import argparse
import json
from pathlib import Path

from mmpref.cli import ending
from mmpref.files import replacing
from mmpref.progress import say
from mmpref.records.items import read_items
from mmpref.scoring import judge
from mmpref.scoring.answers import read_answers
from mmpref.scoring.resources import Resources
from mmpref.scoring.verdicts import judge_calls
from mmpref.study.benchmarks import Judge


def main() -> None:
    """Parse the arguments and write the replies, or with --dry-run the plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", required=True, help="the benchmark's items.parquet")
    parser.add_argument("--answers", required=True, help="JSON Lines of answers")
    parser.add_argument("--data", type=Path, required=True, help="folder with its files")
    parser.add_argument("--judge", required=True, help="the judge's part of the study, JSON")
    parser.add_argument("--judge-runs", type=int, required=True, help="times an answer is judged")
    parser.add_argument("--dry-run", action="store_true", help="only say what it will take")
    parser.add_argument("--output", type=Path, required=True, help="JSON Lines, or the plan's JSON")
    arguments = parser.parse_args()
    part = Judge.model_validate_json(arguments.judge)
    items = read_items(arguments.items)
    resources = Resources(folder=arguments.data, judge=True, judge_runs=arguments.judge_runs)
    calls, scorer = judge_calls(
        items, read_answers(arguments.answers), resources, arguments.answers
    )
    settings = judge.settings_of(part)
    # Beside the output, which Snakemake would remove with a failed job.
    store = arguments.output.with_name(f".{arguments.output.name.split('.')[0]}.replies.jsonl")
    if arguments.dry_run:
        plan = judge.plan(calls, settings, store)
        say(str(plan))
        with replacing(arguments.output) as temporary:
            temporary.write_text(json.dumps(vars(plan), indent=2) + "\n", encoding="utf-8")
        return
    replies = judge.ask(calls, settings, store, scorer.usable, scorer.parse)
    judge.write_replies(arguments.output, replies)
    say(str(judge.totals(replies, settings)))


if __name__ == "__main__":
    ending(main)
