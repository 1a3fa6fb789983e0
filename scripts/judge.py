"""Rule judge: a judge model's replies about a model's responses, or what they will take."""

import json
from pathlib import Path

from mmpref.cli import run
from mmpref.files import replacing
from mmpref.progress import say
from mmpref.records.items import read_items
from mmpref.scoring import judge as judges
from mmpref.scoring.resources import Resources
from mmpref.scoring.responses import read_responses
from mmpref.scoring.verdicts import judge_calls
from mmpref.study.benchmarks import Judge


def main(
    items: Path,
    responses: Path,
    data: Path,
    judge: Judge,
    judge_runs: int,
    output: Path,
    dry_run: bool = False,
) -> None:
    """Write the judge's replies, or with --dry-run the plan.

    Args:
        items: the benchmark's items.parquet
        responses: JSON Lines
        data: folder with the benchmark's files
        judge: the judge's part of the study
        judge_runs: how often a response is judged
        output: JSON Lines, or the plan's JSON
        dry_run: only say what it will take
    """
    resources = Resources(folder=data, judge=True, judge_runs=judge_runs)
    calls, scorer = judge_calls(read_items(items), read_responses(responses), resources, responses)
    settings = judges.judge_settings(judge)
    # Beside the output, which Snakemake would remove with a failed job.
    store = output.with_name(f".{output.name.split('.')[0]}.replies.jsonl")
    if dry_run:
        plan = judges.plan(calls, settings, store)
        say(str(plan))
        with replacing(output) as temporary:
            temporary.write_text(json.dumps(vars(plan), indent=2) + "\n", encoding="utf-8")
        return
    replies = judges.ask(calls, settings, store, scorer.usable, scorer.parse)
    judges.write_replies(output, replies)
    say(str(judges.totals(replies, settings)))


if __name__ == "__main__":
    run(main)
