"""The command `mmpref score`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from mmpref import downloads
from mmpref.benchmarks.benchmark import Benchmark, named
from mmpref.benchmarks.public import with_images
from mmpref.errors import InputError
from mmpref.progress import say
from mmpref.study.benchmarks import Judge
from mmpref.study.explanation import wrong

if TYPE_CHECKING:
    from mmpref.records.items import Item


def score(
    benchmark: str,
    /,
    answers: Path,
    output: Path,
    data: Path | None = None,
    images: Path | None = None,
    verdicts: Path | None = None,
    seed: int = 0,
    similarity: Literal["exact", "embeddings", "spacy"] = "exact",
    judge: str | None = None,
    judge_runs: int = 1,
    dry_run: bool = False,
    items: Path | None = None,
    public: str | None = None,
    judgements: Path | None = None,
) -> None:
    """Score answers to a benchmark: metrics with intervals, and the verdict on every answer.

    mmpref score pope-coco-adversarial --answers answers.jsonl --data FOLDER --output scores.json

    Args:
        benchmark: its name, as in a study; any name with --items
        answers: as the official scorer takes them, JSON lines of id and response, VLMEvalKit's
            prediction file (TSV, JSON) or lmms-eval's sample file
        output: JSON to write
        data: folder with the benchmark's files
        images: folder with its images, for a judge of images
        verdicts: Parquet to write; default: beside --output
        seed: for the bootstrap
        similarity: AMBER: when a noun counts as another one
        judge: a model's name, or a study's judge as JSON
        judge_runs: how often an answer is judged
        dry_run: only say what the judge would cost
        items: the workflow's items.parquet, instead of those in --data
        public: which benchmark those items are of
        judgements: what the workflow's rule judge wrote; nothing is asked
    """
    # Here, so that `mmpref --help` need not wait for pandas.
    from mmpref.records.items import read_items
    from mmpref.scoring import judge as judges
    from mmpref.scoring import verdicts as scoring
    from mmpref.scoring.resources import Resources
    from mmpref.scoring.responses import read_responses

    about: dict[str, Any] = {}
    if items:
        questions = read_items(items)
        responses = read_responses(answers, questions)
        entry = named(public) if public else None
    else:
        entry = named(benchmark)
        if not data:
            raise InputError("--data is missing: the folder with the benchmark's files")
        questions, responses = items_and_responses(entry, data, answers)
        if images:
            questions = with_images(questions, images)
    if entry and data:
        about["data"] = _used_files(entry, data)
    resources = Resources(data, similarity)
    if entry and entry.judged == "always" and not judge:
        raise InputError(f"{benchmark} is scored by a judge model; give --judge")
    if dry_run and not judge:
        raise InputError("--dry-run says what a judge would cost; give --judge")
    if judge:
        resources = replace(resources, judge=True, judge_runs=judge_runs)
        part = _judge(judge)
        settings = judges.judge_settings(part, asks=not judgements)
        if judgements:
            replies = judges.read_replies(judgements)
        else:
            calls, scorer = scoring.judge_calls(questions, responses, resources, answers)
            store = output.with_suffix(".replies.jsonl")
            if dry_run:
                say(str(judges.plan(calls, settings, store)))
                return
            asked = judges.ask(calls, settings, store, scorer.usable, scorer.parse)
            replies = judges.by_item(asked)
        resources = replace(resources, replies=replies)
        flat = [reply for of_item in replies.values() for reply in of_item]
        about["judge"] = {"model": part.model, **judges.totals(flat, settings)}

    scores = scoring.score(questions, responses, resources, answers)
    if scores.kind == "amber":
        about["similarity"] = similarity
    table = verdicts or output.with_suffix(".parquet")
    say(scoring.summary(scoring.write_scores(output, table, scores, benchmark, seed, about)))


def items_and_responses(
    benchmark: Benchmark, folder: Path, answers: Path
) -> "tuple[list[Item], list[dict[str, Any]]]":
    """Return a benchmark's items from its data folder, and the answers in a file to them.

    Raises InputError when there is no such folder, or a file cannot be read.
    """
    from mmpref.scoring.responses import read_responses

    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give the folder with the benchmark's data")
    if benchmark.subsets:
        given = read_responses(answers, official=benchmark.responses)
        return benchmark.items(folder, images={str(answer["id"]) for answer in given}), given
    items = benchmark.items(folder)
    given = read_responses(answers, items, benchmark.responses)
    check = getattr(benchmark.reader, "other_version", None)
    if problem := check and check(len(items), len(given)):
        raise InputError(f"{answers}: {problem}")
    return items, given


def _used_files(benchmark: Benchmark, folder: Path) -> dict[str, Any]:
    """Return the sums of a benchmark's files; say which of them are not known to be pinned ones."""
    found = downloads.verify(folder, benchmark.data)
    for path, file in found.items():
        if not file["pinned"]:
            say(
                f"note: {folder / path} is not the pinned file of {benchmark.data}, or no sum of "
                f"it is known (sha256 {file['sha256']}): make sure of its version before you "
                "compare scores"
            )
    return found


def _judge(text: str) -> Judge:
    try:
        return Judge.model_validate_json(text) if text.startswith("{") else Judge(model=text)
    except ValidationError as error:
        raise wrong("--judge", error) from None
