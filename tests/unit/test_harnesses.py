"""Answers in the files of VLMEvalKit and lmms-eval, read and written."""

import csv
import json
import sys
from pathlib import Path

import pytest

from mmpref.__main__ import main
from mmpref.benchmarks.benchmark import named
from mmpref.errors import InputError
from mmpref.records.items import Item
from mmpref.scoring.harnesses import export_responses
from mmpref.scoring.responses import read_responses
from mmpref.scoring.verdicts import paired

POPE = named("pope-coco").responses
AMBER = named("amber").responses
SUFFIX = "\nAnswer the question using a single word or phrase."


def pope(id: str, name: str, label: str, image: str, setting: str = "popular") -> Item:
    truth = {"kind": "pope", "image": image, "label": label, "setting": setting, "object": name}
    return Item(id, (), f"Is there a {name} in the image?", truth)


ONE_SETTING = [
    pope("1", "snowboard", "yes", "COCO_val2014_000000310196.jpg"),
    pope("2", "car", "no", "COCO_val2014_000000310196.jpg"),
    pope("3", "car", "yes", "COCO_val2014_000000210789.jpg"),
]
# As in POPE: what is there is asked alike in all settings, what is not differs.
SETTINGS = [
    pope(f"{setting}/{n}", name, label, "1.jpg", setting)
    for setting, absent in (("random", "boat"), ("popular", "car"), ("adversarial", "dog"))
    for n, name, label in ((1, "snowboard", "yes"), (2, absent, "no"))
]


def amber(id: str, prompt: str, image: str, truth="yes", type="discriminative-attribute-state"):
    return Item(id, (), prompt, {"kind": "amber", "image": image, "type": type, "truth": truth})


DESCRIPTION = amber("1", "Describe this image.", "AMBER_1.jpg", ["cloud"], "generative")
QUESTIONS = [
    amber("1005", "Is the sky sunny in this image?", "AMBER_1.jpg"),
    amber("1006", "Is the sky sunny in this image?", "AMBER_2.jpg", "no"),
    amber("1007", "Is there a cloud in this image?", "AMBER_1.jpg", "no", "relation"),
]


def tsv(path: Path, rows: list[dict]) -> Path:
    """As VLMEvalKit writes it: every field in quotes."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), delimiter="\t", quoting=csv.QUOTE_ALL)
        table.writeheader()
        table.writerows(rows)
    return path


def predicted(index, question: str, prediction, **more) -> dict:
    return {"index": index, "question": question, "answer": "Yes", "category": "popular",
            "prediction": prediction, **more}  # fmt: skip


def sampled(number: int, question_id: str, question: str, text: str, **more) -> dict:
    """A line of lmms-eval's sample file, of a task without filters."""
    metric = {"question_id": question_id, "score": 1.0, "prediction": text, "ground_truth": "yes"}
    return {
        "doc_id": number, "target": "yes", "filtered_resps": [text], "doc_hash": "74234e98afe7498f",
        "pope_accuracy": metric, "pope_f1_score": metric, "input": question + SUFFIX, **more,
    }  # fmt: skip


def jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def by_id(responses: list[dict]) -> dict[str, str]:
    return {response["id"]: response["response"] for response in responses}


def pope_rows() -> list[dict]:
    texts = {"3": "No", "1": 'Yes,\nthere "is"\ta one.', "2": ""}
    prompts = {item.id: item.prompt for item in ONE_SETTING}
    return [predicted(int(id), prompts[id], text) for id, text in texts.items()]


def test_vlmevalkit_tables_and_arrays_are_joined_by_index(tmp_path):
    expected = {"3": "No", "1": 'Yes,\nthere "is"\ta one.', "2": ""}
    rows = pope_rows()
    found = read_responses(tsv(tmp_path / "a.tsv", rows), ONE_SETTING, POPE)
    assert by_id(found) == expected
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=4))
    assert read_responses(tmp_path / "a.json", ONE_SETTING, POPE) == found


def test_lmms_eval_lines_are_joined_by_question_id(tmp_path):
    rows = [
        sampled(0, "3", ONE_SETTING[2].prompt, "No"),
        sampled(1, "1", ONE_SETTING[0].prompt, "yes", resps=[["Yes."]]),  # with a filter
        sampled(2, "2", ONE_SETTING[1].prompt, "No") | {"filtered_resps": "no"},
    ]
    found = read_responses(jsonl(tmp_path / "a.jsonl", rows), ONE_SETTING, POPE)
    assert by_id(found) == {"3": "No", "1": "Yes.", "2": "no"}


def test_amber_is_joined_by_image_and_question_where_the_index_is_another_one(tmp_path):
    rows = [
        predicted(0, QUESTIONS[1].prompt, "No", image_path="images/AMBER/AMBER_2.jpg"),
        predicted(1, QUESTIONS[0].prompt, "Yes", image_path="AMBER_1.jpg"),  # 1 describes
        predicted(2, QUESTIONS[2].prompt, "Yes", image_path="AMBER_1.jpg"),
    ]
    items = [DESCRIPTION, *QUESTIONS]
    found = read_responses(tsv(tmp_path / "a.tsv", rows), items, AMBER)
    assert by_id(found) == {"1006": "No", "1005": "Yes", "1007": "Yes"}
    # Without images, a question that is asked once is enough, another one is not.
    for row in rows:
        del row["image_path"]
    found = read_responses(tsv(tmp_path / "a.tsv", rows[2:]), items, AMBER)
    assert by_id(found) == {"1007": "Yes"}
    with pytest.raises(InputError, match=r"row 1 \(id 0, .*may be about 2 items \(1005, 1006\)"):
        read_responses(tsv(tmp_path / "a.tsv", rows), items, AMBER)


def test_an_answer_that_may_be_about_several_settings_is_refused(tmp_path):
    rows = [sampled(0, "2", "Is there a car in the image?", "No")]
    found = read_responses(jsonl(tmp_path / "a.jsonl", rows), SETTINGS, POPE)
    assert by_id(found) == {"popular/2": "No"}
    rows.append(sampled(1, "1", "Is there a snowboard in the image?", "Yes"))
    with pytest.raises(
        InputError, match=r"a.jsonl: line 2 .*3 items \(random/1, popular/1, adversarial/1\)"
    ):
        read_responses(jsonl(tmp_path / "a.jsonl", rows), SETTINGS, POPE)


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("a.tsv", [predicted(7, "Is there a cow?", "No")],
         r"row 1 \(id 7, question 'Is there a cow\?'\): no item of the benchmark"),
        ("a.tsv", [predicted(1, ONE_SETTING[0].prompt, "Failed to obtain answer via API.")],
         "row 1: prediction is 'Failed to obtain answer'; let VLMEvalKit answer it again"),
        ("a.json", [predicted(1, ONE_SETTING[0].prompt, None)],
         "element 1: prediction is None, not a text"),
        ("a.tsv", [{"id": 1, "prediction": "No"}], "has no column index"),
        ("a.jsonl", [sampled(0, "1", "Is", "a") | {"filtered_resps": ["Yes", "No"]}],
         r"line 1: filtered_resps is \['Yes', 'No'\], not one text"),
        ("a.jsonl", [sampled(0, "1", "Is", "a", pope_recall={"question_id": "2"})],
         r"line 1: its metrics have several question_id \(1, 2\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_named(tmp_path, name, rows, message):
    path = tmp_path / name
    if name.endswith(".tsv"):
        tsv(path, rows)
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows))
    else:
        jsonl(path, rows)
    with pytest.raises(InputError, match=message):
        read_responses(path, ONE_SETTING, POPE)


def test_files_of_other_kinds(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(InputError, match="Excel files are not read; save it as TSV"):
        read_responses(tmp_path / "a.xlsx", ONE_SETTING, POPE)
    (tmp_path / "a.tsv").write_text("index\tprediction\n1\n")
    with pytest.raises(InputError, match="row 1: has not as many fields as the header"):
        read_responses(tmp_path / "a.tsv", ONE_SETTING, POPE)
    with pytest.raises(InputError, match="this benchmark has no fixed ones"):
        read_responses(tsv(tmp_path / "b.tsv", pope_rows()), (), named("chair").responses)


def test_missing_answers_are_named(tmp_path):
    responses = read_responses(tsv(tmp_path / "a.tsv", pope_rows()[:1]), ONE_SETTING, POPE)
    with pytest.raises(InputError, match=r"2 items without a response \(1, 2\)"):
        paired(ONE_SETTING, responses, "a.tsv")


@pytest.mark.parametrize("to", ["vlmevalkit-tsv", "vlmevalkit-json", "lmms-eval"])
@pytest.mark.parametrize(
    ("benchmark", "items"),
    [("pope-coco", SETTINGS), ("pope-coco-popular", ONE_SETTING), ("amber", QUESTIONS)],
)
def test_what_was_written_is_read_again(tmp_path, to, benchmark, items):
    given = [(item, {"id": item.id, "response": f'Yes "{item.id}"\n\t.'}) for item in items]
    path = export_responses(given, benchmark, to, "org/model", tmp_path)
    found = read_responses(path, items, named(benchmark).responses)
    assert found == [response for _, response in given]


def test_vlmevalkit_columns(tmp_path):
    given = [(item, {"id": item.id, "response": "No"}) for item in [DESCRIPTION, *QUESTIONS]]
    path = export_responses(given, "amber", "vlmevalkit-tsv", "m", tmp_path)
    assert path.name == "m_AMBER.tsv"
    assert path.read_text().splitlines()[:2] == [
        '"index"\t"image_path"\t"question"\t"answer"\t"category"\t"prediction"',
        '"1005"\t"AMBER_1.jpg"\t"Is the sky sunny in this image?"\t"Yes"\t'
        '"discriminative-attribute-state"\t"No"',
    ]
    with pytest.raises(InputError, match=r"m_AMBER\.tsv: already exists; remove it"):
        export_responses(given, "amber", "vlmevalkit-tsv", "m", tmp_path)
    given = [(item, {"id": item.id, "response": "No"}) for item in SETTINGS]
    path = export_responses(given, "pope-coco", "vlmevalkit-json", "m", tmp_path)
    assert path.name == "m_POPE.json"
    rows = json.loads(path.read_text())
    assert {row["answer"] for row in rows} == {"Yes", "No"}
    assert {row["category"] for row in rows} == {"random", "popular", "adversarial"}
    with pytest.raises(InputError, match="amber: has no question to answer with yes or no"):
        export_responses(
            [(DESCRIPTION, {"response": "A"})], "amber", "vlmevalkit-tsv", "n", tmp_path
        )


def test_lmms_eval_lines(tmp_path):
    given = [(item, {"id": item.id, "response": "No "}) for item in ONE_SETTING]
    path = export_responses(given, "pope-coco-popular", "lmms-eval", "org/model", tmp_path)
    assert path.parent == tmp_path / "org__model"
    assert path.name.endswith("_samples_pope_coco_popular.jsonl")
    first, second, _ = map(json.loads, path.read_text().splitlines())
    assert "doc_hash" not in first
    assert (first["doc_id"], first["target"], first["resps"]) == (0, "yes", [["No "]])
    assert [one["pope_accuracy"]["score"] for one in (first, second)] == [0.0, 1.0]
    assert second["pope_f1_score"] == {
        "question_id": "2", "score": 1.0, "prediction": "no", "ground_truth": "no"
    }  # fmt: skip
    path = export_responses([(DESCRIPTION, {"response": "A"})], "amber", "lmms-eval", "m", tmp_path)
    row = json.loads(path.read_text())
    assert json.loads(row["target"]) == {"type": "generative", "truth": ["cloud"]}


def test_the_commands(tmp_path, monkeypatch, capfd):
    data = tmp_path / "pope" / "coco" / "coco_pope_popular.json"
    data.parent.mkdir(parents=True)
    questions = [
        {"question_id": int(item.id), "image": item.truth["image"], "text": item.prompt,
         "label": item.truth["label"]}
        for item in ONE_SETTING
    ]  # fmt: skip
    jsonl(data, questions)
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": n, "answer": "Yes"} for n in (1, 2, 3)])
    exported = ["export-answers", "pope-coco-popular", "--answers", answers, "--data",
                tmp_path / "pope", "--format", "vlmevalkit-tsv", "--model", "m", "--output",
                tmp_path]  # fmt: skip
    scored = ["score", "pope-coco-popular", "--answers", tmp_path / "m_POPE.tsv", "--data",
              tmp_path / "pope", "--output", tmp_path / "scores.json"]  # fmt: skip
    for arguments in (exported, scored):
        monkeypatch.setattr(sys, "argv", ["mmpref", *map(str, arguments)])
        main()
    assert json.loads((tmp_path / "scores.json").read_text())["strict"]["accuracy"] == 2 / 3
    assert "m_POPE.tsv: from 3 answers" in capfd.readouterr().err
