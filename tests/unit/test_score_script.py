"""`scripts/score.py` on a user's own files, as on the command line."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import nltk
import pandas as pd
import pytest
from benchmark_data import BENCHMARKS as SHARED
from benchmark_data import SYNONYMS, needs_shared, nltk_folder, refined_synonyms
from judge_server import CUT, HTML, MODEL, JudgeServer, text
from PIL import Image

from mmpref.benchmarks.benchmark import benchmarks
from mmpref.cli import run
from mmpref.commands import score as command
from mmpref.downloads import load

ROOT = Path(__file__).parents[2]


@pytest.fixture
def score(monkeypatch, tmp_path, capfd):
    """A function from arguments to the written scores, or to the error message."""
    monkeypatch.setenv("NLTK_DATA", str(nltk_folder()))
    monkeypatch.setattr(nltk.data, "path", [str(nltk_folder())])

    def call(benchmark: str, answers: str, data: Path, *more: str) -> dict | str:
        path = tmp_path / "answers.json"
        path.write_text(answers, encoding="utf-8")
        (tmp_path / "s.json").unlink(missing_ok=True)
        arguments = [benchmark, "--answers", path, "--data", data, "--output", tmp_path / "s.json"]
        monkeypatch.setattr(sys, "argv", ["score.py", *map(str, arguments), *more])
        code: Any = 0
        try:
            run(command)
        except SystemExit as end:
            code = end.code
        if code:
            assert not (tmp_path / "s.json").exists()
            return capfd.readouterr().err
        if "--dry-run" in more:
            assert not (tmp_path / "s.json").exists()
            return capfd.readouterr().err
        return json.loads((tmp_path / "s.json").read_text())

    return call


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def pope(tmp_path) -> Path:
    """A POPE-style folder with four questions about two images."""
    folder = tmp_path / "pope"
    (folder / "coco").mkdir(parents=True)
    (folder / "coco" / "coco_pope_popular.json").write_text(
        lines(
            *(
                {
                    "question_id": n,
                    "image": f"{(n - 1) // 2}.jpg",
                    "text": f"Is there a {name} in the image?",
                    "label": label,
                }
                for n, (name, label) in enumerate(
                    [("dog", "yes"), ("cat", "no"), ("cup", "yes"), ("car", "no")], start=1
                )
            )
        )
    )
    return folder


def answers(*texts: str, first: int = 1) -> str:
    return lines(*({"question_id": n, "answer": one} for n, one in enumerate(texts, start=first)))


def test_both_readings_side_by_side_with_every_verdict(score, pope, tmp_path, capfd):
    scores = score("pope-coco-popular", answers("Yes.", "NO", "", "no"), pope)
    # By hand. Official: yes, yes, yes, no; strict: yes, no, unparsed, no.
    assert scores["official"] == pytest.approx(
        {"TP": 2, "FP": 1, "TN": 1, "FN": 0, "accuracy": 3 / 4, "precision": 2 / 3, "recall": 1,
         "F1": 4 / 5, "yes_ratio": 3 / 4}
    )  # fmt: skip
    expected = {"accuracy": 3 / 4, "precision": 1, "recall": 1 / 2, "F1": 2 / 3, "yes_ratio": 1 / 4}
    assert {name: scores["strict"][name] for name in expected} == pytest.approx(expected)
    assert scores["unparsed_rate"] == 1 / 4
    assert scores["readings_differ"] == 2 / 4
    assert (scores["items"], scores["empty"]) == (4, 1)
    assert scores["data"]["coco/coco_pope_popular.json"]["pinned"] is False
    table = pd.read_parquet(tmp_path / "s.parquet").set_index("id")
    assert list(table["response"]) == ["Yes.", "NO", "", "no"]
    assert list(table.index[table["flawed"]]) == ["3"]
    printed = capfd.readouterr().err
    assert "is not the pinned file of pope" in printed
    assert "readings_differ: 0.5" in printed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (answers("Yes", "No"), r"2 items without a response (3, 4)"),
        (answers("Yes", "No", "Yes", "No", first=11), "4 items without a response (1, 2, 3, ...); "
         "4 responses to items that are not in the benchmark (11, 12, 13, ...)"),
        (answers("Yes", "No", "Yes", "No") + answers("No"), "1 items with several responses (1)"),
        (json.dumps([{"question_id": n, "answer": "Yes"} for n in (1, 2, 3, 4)]),
         "is a JSON array of objects, where JSON lines, one object per line is expected"),
        ("", "4 items without a response"),
    ],
)  # fmt: skip
def test_answers_that_do_not_fit_are_an_error_with_counts(score, pope, given, message):
    printed = score("pope-coco-popular", given, pope)
    assert message in printed
    assert "answers.json: " in printed


def test_a_benchmark_or_folder_that_is_not_there(score, pope, tmp_path):
    assert "unknown benchmark 'poppe'; did you mean 'pope-gqa'? valid are: amber" in score(
        "poppe", "", pope
    )
    assert "nowhere: is not a folder" in score("pope-coco-popular", "", tmp_path / "nowhere")
    assert "coco_pope_random.json" in score("pope-coco-random", "", pope)


@pytest.mark.parametrize(
    ("benchmark", "rows", "words"),
    [
        ("pope-coco-random", 2910, "score the answers as pope-coco-random-2910"),
        ("pope-coco-random-2910", 2910, "3,000 rows, 1,500 of them with label yes: not the random"),
    ],
)
def test_the_versions_of_popes_random_questions_are_told_apart(
    score, tmp_path, benchmark, rows, words
):
    questions = (
        {
            "question_id": n,
            "image": f"{n // 6}.jpg",
            "text": f"Is there a thing {n} in the image?",
            "label": "yes" if n % 2 else "no",
        }
        for n in range(1, 3001)
    )
    (tmp_path / "coco_pope_random.json").write_text(lines(*questions))
    message = score(benchmark, answers(*["Yes"] * rows), tmp_path)
    assert words in message


def test_answers_without_ids_are_joined_by_their_questions(score, pope):
    rows = [json.loads(row) for row in next(pope.rglob("*.json")).read_text().splitlines()]
    given = [{"question": row["text"], "answer": row["label"]} for row in rows]
    scores = score("pope-coco-popular", lines(*given), pope)
    assert scores["official"]["accuracy"] == scores["strict"]["F1"] == 1
    message = score("pope-coco-popular", lines(*given[1:], given[0]), pope)
    assert "questions are not the benchmark's at that place (first: line 1)" in message


@needs_shared
def test_pope_answers_as_its_own_scorer_takes_them(score):
    path = SHARED / "pope" / "coco" / "coco_pope_adversarial.json"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    given = [{"question": row["text"], "answer": row["label"]} for row in rows]
    scores = score("pope-coco-adversarial", lines(*given), SHARED / "pope")
    assert scores["official"]["accuracy"] == scores["strict"]["F1"] == 1
    assert all(file["pinned"] for file in scores["data"].values())
    message = score("pope-coco-adversarial", lines(*given[6:], *given[:6]), SHARED / "pope")
    assert "questions are not the benchmark's at that place (first: line 1)" in message


@needs_shared
def test_amber_as_its_own_scorer_takes_it_and_as_lines(score):
    annotations = json.loads((SHARED / "amber" / "annotations.json").read_text())
    rows = [
        {"id": row["id"], "response": ". ".join(row["truth"]) if row["id"] <= 1004 else "No"}
        for row in annotations
    ]
    scores = score("amber", json.dumps(rows), SHARED / "amber")
    assert scores["similarity"] == "exact"
    assert scores["official"]["existence/accuracy"] == 100
    # 689 of 1,664 relations are "no", and 4,924 + 3,814 + 689 of all 14,216 questions.
    assert scores["official"]["relation/accuracy"] == round(68900 / 1664, 1)
    assert scores["official"]["accuracy"] == round(942700 / 14216, 1)
    assert scores["strict"]["recall"] == 100
    part = lines(*rows[1004:])
    assert "1004 items without a response" in score("amber", part, SHARED / "amber")
    alone = score("amber-discriminative", part, SHARED / "amber")
    assert alone["official"]["F1"] == scores["official"]["F1"]
    assert not {"CHAIR", "AMBER"} & set(alone["official"])


@needs_shared
def test_chair_of_published_captions(score):
    captions = (SHARED / "pope" / "captions" / "Instruction2_llava.json").read_text()
    scores = score("chair", captions, SHARED / "chair")
    assert (scores["official"]["CHAIRi"], scores["official"]["CHAIRs"]) == (10.5, 32.7)
    assert scores["items"] == 2000
    assert "no ground truth for 1 images (999999999)" in score(
        "chair", lines({"image_id": 999999999, "caption": "A dog."}), SHARED / "chair"
    )


@pytest.fixture
def chair(tmp_path) -> Path:
    """A folder of CHAIR's with two images."""
    folder = tmp_path / "chair"
    folder.mkdir()
    shutil.copy(SYNONYMS, folder)
    (folder / "coco2014_gt_objects_subset.json").write_text('{"7": ["dog"], "8": ["cup"]}')
    return folder


def test_chair_of_the_images_described(score, chair):
    scores = score("chair", json.dumps({"7": "Two dogs and a bus. A cup."}), chair)
    assert scores["items"] == 1
    # "bus" is not a name to the official scorer, whose singular of it is "bu".
    assert scores["official"]["CHAIRi"] == 50
    assert scores["strict"]["CHAIRi"] == pytest.approx(200 / 3)
    assert "no ground truth for 1 images (9)" in score(
        "chair", lines({"image_id": 9, "caption": "A dog."}), chair
    )


def test_a_file_without_answers_is_an_error(score, chair):
    assert "it is empty" in score("chair", "", chair)


@pytest.fixture
def mmhal(tmp_path, monkeypatch) -> Path:
    """An MMHal-style folder with three questions, and an environment without a judge."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    rows = [
        {
            "question_type": "attribute",
            "question_topic": "indoor",
            "image_id": image,
            "image_content": ["Cup"],
            "question": "Which colour?",
            "gt_answer": "Blue.",
            "model_answer": f"Blue {image}.",
        }
        for image in "abc"
    ]
    (tmp_path / "mmhal").mkdir()
    (tmp_path / "mmhal" / "mmhal-bench_answer_template.json").write_text(json.dumps(rows))
    return tmp_path / "mmhal"


def own(mmhal: Path) -> str:
    return (mmhal / "mmhal-bench_answer_template.json").read_text()


def judge(**settings) -> tuple[str, str]:
    return "--judge", json.dumps({"model": MODEL, "retries": 0, **settings})


def test_a_judge_is_asked_once_and_its_failures_are_no_zeros(score, mmhal, monkeypatch, tmp_path):
    def rate(request):
        return text("I will not." if "Blue c." in request.prompt else "Rating: 4")

    with JudgeServer(otherwise=rate) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-something-secret")
        plan = score("mmhal", own(mmhal), mmhal, *judge(), "--dry-run")
        assert "3 of 3 calls to make" in plan
        assert not server.requests
        scores = score("mmhal", own(mmhal), mmhal, *judge())
        again = score("mmhal", own(mmhal), mmhal, *judge())
    assert scores == again
    assert len(server.requests) == 3
    assert (scores["official"]["score"], scores["strict"]["score"]) == (2.67, 4)
    assert (scores["unparsed_rate"], scores["judge_failures"]) == (1 / 3, 1)
    assert (scores["judge"]["calls"], scores["judge"]["prompt_tokens"]) == (3, 300)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (HTML, "the reply is not JSON: <html><body>Please log in"),
        (CUT, "3 calls in a row failed"),
        (text("Rating: 4", model="judge-2"), "asked 'judge-1', but 'judge-2' answered"),
    ],
)
def test_a_judge_that_cannot_be_used_is_an_error(score, mmhal, monkeypatch, answer, message):
    with JudgeServer(otherwise=answer) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert message in score("mmhal", own(mmhal), mmhal, *judge(key_variable=None))


def test_a_judge_without_address_or_key_is_an_error(score, mmhal, monkeypatch):
    assert "OPENAI_BASE_URL is not set" in score("mmhal", own(mmhal), mmhal, "--judge", MODEL)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert "OPENAI_API_KEY is not set" in score("mmhal", own(mmhal), mmhal, "--judge", MODEL)
    assert "mmhal is scored by a judge model; give --judge" in score("mmhal", own(mmhal), mmhal)


def test_a_judge_for_a_benchmark_without_one_is_an_error(score, pope, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    message = score("pope-coco-popular", answers(*"abcd"), pope, *judge(key_variable=None))
    assert "a pope benchmark is scored without a judge; leave the judge out" in message
    assert "--dry-run says what a judge would cost" in score(
        "pope-coco-popular", answers(*"abcd"), pope, "--dry-run"
    )
    assert "--judge: modle: Extra inputs" in score(
        "pope-coco-popular", answers(*"abcd"), pope, "--judge", '{"modle": "x", "model": "y"}'
    )


def test_mm_vet_is_judged_several_times(score, tmp_path, monkeypatch):
    questions = {
        f"v1_{n}": {
            "imagename": f"v1_{n}.png",
            "question": "What is it?",
            "answer": "cup <OR> mug",
            "capability": capability,
        }
        for n, capability in enumerate([["rec"], ["rec", "ocr"]])
    }
    (tmp_path / "mm-vet").mkdir()
    (tmp_path / "mm-vet" / "mm-vet.json").write_text(json.dumps(questions))
    seen: Counter[str] = Counter()

    def rate(request):
        # Of two judge runs the first finds the first answer half right, the second all right.
        seen[request.prompt] += 1
        if "| A cup |" in request.prompt:
            return text("0.5" if seen[request.prompt] == 1 else "1.0")
        return text("0.0")

    with JudgeServer(otherwise=rate) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        given = json.dumps({"v1_0": "A cup", "v1_1": "A dog"})
        one_by_one = judge(key_variable=None, concurrency=1)
        scores = score("mm-vet", given, tmp_path / "mm-vet", *one_by_one, "--judge-runs", "2")
    assert len(server.requests) == 4
    official = scores["official"]
    # Totals of the runs: 25 and 50.
    assert (official["score"], official["score_deviation"]) == (37.5, 12.5)
    assert (official["rec/score"], official["ocr/score"]) == (37.5, 0)
    assert scores["strict"] == pytest.approx(official)


@needs_shared
def test_llava_bench_is_judged_beside_the_reference(score, monkeypatch):
    folder = SHARED / "llava_bench"
    rows = (folder / "coco" / "qa90_questions.jsonl").read_text().splitlines()
    given = [{"question_id": json.loads(row)["question_id"], "text": "Two cats."} for row in rows]

    def rate(request):
        return text("8 6\nThe second is short." if len(server.requests) % 9 else "Both are good.")

    with JudgeServer(otherwise=rate) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        local = judge(key_variable=None, concurrency=1)
        scores = score("llava-bench-coco", lines(*given), folder, *local)
    assert "[Assistant 2]\nTwo cats." in server.requests[0].prompt
    assert len(server.requests) == 90
    # 80 times 8 and 6; officially ten times -1 and -1 besides.
    assert scores["strict"]["score"] == 75
    assert scores["official"]["score"] == round(100 * round(470 / 90, 3) / round(630 / 90, 3), 1)
    assert scores["unparsed_rate"] == pytest.approx(10 / 90)


def test_object_halbench_with_a_judge_and_without(score, tmp_path, monkeypatch):
    (tmp_path / "objhal").mkdir()
    (tmp_path / "chair").mkdir()
    (tmp_path / "chair" / "coco2014_gt_objects_subset.json").write_text('{"7": ["dog"], "8": []}')
    shutil.copy(refined_synonyms(), tmp_path / "objhal")
    image = base64.b64encode(b"photo").decode()
    questions = [{"image_id": n, "question": "What is there?", "image": image} for n in (7, 8)]
    (tmp_path / "objhal" / "obj_halbench_300_with_image.jsonl").write_text(lines(*questions))
    given = lines(
        {"image_id": 7, "question": "", "answer": "A dog sits beside a blue cup."},
        {"image_id": 8, "question": "", "answer": "There is nothing to be seen."},
    )
    alone = score("object-halbench", given, tmp_path / "objhal")
    assert not {"official", "strict"} & set(alone)
    assert alone["metrics"]["rules/CHAIRi"] == 50
    with JudgeServer(
        otherwise=lambda request: text('["dog", "cup"]' if "cup" in request.prompt else "[]")
    ) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        local = judge(key_variable=None)
        scores = score("object-halbench", given, tmp_path / "objhal", *local)
    assert (scores["official"]["CHAIRs"], scores["official"]["CHAIRi"]) == (100, 50)
    assert scores["strict"]["Recall"] == 100


def test_a_judge_of_images_sees_them(score, mmhal, monkeypatch, tmp_path):
    for name in "abc":
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.jpg")
    with JudgeServer(otherwise=text("Rating: 6")) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        local = judge(key_variable=None)
        assert "images: none, but the judge is to see it" in score(
            "mmhal-v", own(mmhal), mmhal, *local
        )
        assert not server.requests
        scores = score("mmhal-v", own(mmhal), mmhal, *local, "--images", str(tmp_path))
    assert scores["strict"]["score"] == 6
    parts = server.requests[0].body["messages"][-1]["content"]
    assert parts[1]["image_url"]["url"].startswith("data:image/jpeg;base64,")


def test_the_script_runs_by_itself(pope, tmp_path):
    (tmp_path / "answers.jsonl").write_text(answers("Yes", "No", "Yes", "No"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, ROOT / "scripts" / "score.py", "pope-coco-popular", "--answers",
         "answers.jsonl", "--data", pope, "--output", "new/scores.json"],
        cwd=tmp_path, env=environment, check=True,
    )  # fmt: skip
    assert json.loads((tmp_path / "new" / "scores.json").read_text())["strict"]["F1"] == 1


def test_names_are_those_that_a_study_may_ask_for():
    schema = json.loads((ROOT / "config" / "schema.json").read_text())
    names = schema["$defs"]["PublicBenchmark"]["properties"]["benchmark"]["enum"]
    assert sorted(benchmarks()) == names
    downloads = load()
    for benchmark in benchmarks().values():
        assert {benchmark.data, benchmark.images} <= set(downloads)
