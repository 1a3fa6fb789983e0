"""Benchmarks of the papers in a study: small files in their format, a judge on loopback."""

import json
import os
import re
import signal
import subprocess
import time

import pandas as pd
import pytest
from judge_server import MODEL, JudgeServer, late, text
from PIL import Image

from mmpref.benchmarks.benchmark import benchmarks as public_benchmarks
from mmpref.downloads import load

ITEM = "results/scores/base/seed0"


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def own_benchmarks(copy_of_finished):
    """A checkout in which the tiny study has run, with two more benchmarks of own files."""
    folder = copy_of_finished.folder / "mine"
    (folder / "images").mkdir(parents=True)
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (72, 72), colour).save(folder / "images" / f"{name}.jpg")
    questions = [
        {"question_id": n, "image": f"{image}.jpg", "text": f"Is there a {name}?", "label": label}
        for n, (image, name, label) in enumerate(
            [("a", "cup", "yes"), ("a", "dog", "no"), ("b", "cup", "no")], start=1
        )
    ]  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in questions)
    (folder / "pope" / "coco").mkdir(parents=True)
    (folder / "pope" / "coco" / "coco_pope_adversarial.json").write_text(lines)
    ratings = [
        {
            "question_type": kind,
            "question_topic": "indoor",
            "image_id": image,
            "image_content": ["Cup"],
            "question": "What is it?",
            "gt_answer": "A cup.",
            "model_answer": "",
        }
        for image, kind in (("a", "attribute"), ("b", "counting"))
    ]
    write_json(folder / "mmhal" / "mmhal-bench_answer_template.json", ratings)

    def change(study):
        shared = {"source": "public", "images": "mine/images", "max_new_tokens": 4}
        study["judges"] = {"gpt": {"model": MODEL, "retries": 0}}
        study["benchmarks"] |= {
            "pope": shared | {"benchmark": "pope-coco-adversarial", "data": "mine/pope"},
            "mmhal": shared | {"benchmark": "mmhal-v", "data": "mine/mmhal", "judge": "gpt"},
        }

    copy_of_finished.change_study(change)
    return copy_of_finished


def test_every_benchmark_of_the_papers_can_be_planned(checkout, monkeypatch):
    environment(monkeypatch, OPENAI_BASE_URL="http://127.0.0.1:9/v1", OPENAI_API_KEY="none")
    monkeypatch.delenv("NLTK_DATA", raising=False)
    benchmarks = {
        name: {"source": "public", "benchmark": name}
        | ({"judge": "gpt"} if one.judged == "always" else {})
        | ({"items": 500} if one.subsets else {})
        for name, one in public_benchmarks().items()
    }
    checkout.change_study(
        lambda study: study.update(
            judges={"gpt": {"model": MODEL}}, benchmarks=benchmarks, published=None
        )
    )
    planned = checkout.planned()
    runs = 3
    assert planned["benchmark"] == len(benchmarks)
    assert planned["score"] == runs * len(benchmarks)
    assert planned["judge"] == runs * sum("judge" in one for one in benchmarks.values())
    needed = {
        place
        for one in public_benchmarks().values()
        for place in (one.data, one.images, one.beside)
        if place
    }
    assert planned["download"] == len(needed | {"nltk_data"})
    assert needed <= set(load())

    only = {"halbench": benchmarks["object-halbench"]}
    checkout.change_study(lambda study: study.update(benchmarks=only, published=None))
    printed = checkout.snakemake("--dry-run")
    assert {"object-halbench", "chair", "nltk_data"} == set(
        re.findall(r"Downloading (\S+)", printed)
    )


def environment(monkeypatch, **variables):
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_one_benchmark_of_one_run_is_a_target(own_benchmarks, monkeypatch):
    environment(monkeypatch)
    assert own_benchmarks.planned("results/scores/mdpo/seed0/pope.json") == {
        "benchmark": 1,
        "respond_shard": 1,
        "respond": 1,
        "score": 1,
    }
    own_benchmarks.snakemake(f"{ITEM}/pope.json")
    scores = json.loads((own_benchmarks.folder / ITEM / "pope.json").read_text())
    assert scores["items"] == 3
    assert set(scores["official"]) >= {"accuracy", "precision", "recall", "F1", "yes_ratio"}
    assert 0 <= scores["strict"]["accuracy"] <= 1
    assert scores["data"]["coco/coco_pope_adversarial.json"]["pinned"] is False
    verdicts = pd.read_parquet(own_benchmarks.folder / ITEM / "pope.parquet")
    assert list(verdicts["id"]) == ["1", "2", "3"]
    assert verdicts["image"].nunique() == 2


def test_without_a_key_nothing_is_run_but_all_is_planned(own_benchmarks, monkeypatch):
    environment(monkeypatch, OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    printed = own_benchmarks.snakemake(check=False)
    assert "benchmarks.mmhal" in printed
    assert "OPENAI_API_KEY" in printed
    assert "Finished job" not in printed
    planned = own_benchmarks.snakemake("--dry-run")
    assert planned.count("OPENAI_API_KEY is not set") == 1
    assert "OPENAI_BASE_URL" not in planned
    assert own_benchmarks.planned()["judge"] == 3
    assert "digraph" in own_benchmarks.snakemake("--rulegraph")
    # What needs no judge goes on.
    assert own_benchmarks.planned(f"{ITEM}/pope.json")["score"] == 1


def test_a_judged_benchmark_is_planned_judged_scored_and_reported(own_benchmarks, monkeypatch):
    replies = iter([text("Rating: 5"), text("I cannot say.")])
    key = "sk-a-secret-of-some-length"
    with JudgeServer(otherwise=lambda request: next(replies, text("Rating: 1"))) as server:
        environment(monkeypatch, OPENAI_BASE_URL=server.url, OPENAI_API_KEY=key)
        own_benchmarks.snakemake("results/judgements/base/seed0/mmhal.plan.json")
        plan = json.loads(
            (own_benchmarks.folder / "results/judgements/base/seed0/mmhal.plan.json").read_text()
        )
        assert (plan["calls"], plan["images"], len(server.requests)) == (2, 2, 0)
        own_benchmarks.snakemake(f"{ITEM}/mmhal.json")
        assert len(server.requests) == 2
        scores = json.loads((own_benchmarks.folder / ITEM / "mmhal.json").read_text())
        assert scores["official"]["score"] == 2.5
        assert scores["strict"]["score"] == 5
        assert scores["unparsed_rate"] == 0.5
        assert scores["judge"]["models"] == [MODEL]
        own_benchmarks.snakemake()
        assert own_benchmarks.planned() == {}
        after = {"tables": 1, "published": 1, "figures": 1, "page": 1, "all": 1}
        own_benchmarks.edit("src/mmpref/benchmarks/mmhal/judge.txt", "hallucination", "invention")
        assert own_benchmarks.planned() == {"judge": 3, "score": 3, **after}
        own_benchmarks.edit("src/mmpref/benchmarks/mmhal/judge.txt", "invention", "hallucination")
        own_benchmarks.edit(
            "src/mmpref/benchmarks/pope/score.py", '("strict", "")', '("strict", str())'
        )
        assert own_benchmarks.planned() == {"score": 3, **after}
    page = (own_benchmarks.folder / "results/report/index.html").read_text()
    assert "what the benchmark&#39;s own scorer prints" in page
    assert "judged nothing (official: 0 of 6); not understood: &#39;I cannot say.&#39;" in page
    for path in own_benchmarks.folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and os.path.getsize(path) < 10**6:
            assert key.encode() not in path.read_bytes(), path


def test_an_interrupted_judge_is_asked_only_for_the_rest(own_benchmarks, monkeypatch):
    own_benchmarks.change_study(lambda study: study["judges"]["gpt"].update(concurrency=1))
    with JudgeServer(otherwise=late(text("Rating: 5"), 2)) as server:
        environment(monkeypatch, OPENAI_BASE_URL=server.url, OPENAI_API_KEY="none")
        process = subprocess.Popen(
            own_benchmarks.command(f"{ITEM}/mmhal.json"),
            cwd=own_benchmarks.folder,
            env=own_benchmarks.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # In the background of a script, where this test may run, SIGINT is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        while len(server.requests) < 2 and process.poll() is None:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        printed = process.communicate()[0].decode()
        assert process.returncode, printed
        # The first reply came, the second was on its way.
        assert len(server.requests) == 2, printed
        own_benchmarks.snakemake(f"{ITEM}/mmhal.json")
        assert len(server.requests) == 3
    scores = json.loads((own_benchmarks.folder / ITEM / "mmhal.json").read_text())
    assert scores["judge"]["calls"] == 2
    assert scores["official"]["score"] == 5
