import json
from dataclasses import replace

import pytest

from mmpref.benchmarks.benchmark import named
from mmpref.errors import InputError
from mmpref.records.items import Item
from mmpref.scoring.responses import ResponseFormat, read_responses

LINES = ResponseFormat(("lines",), ("question_id",), ("answer", "text"), questions=True)
ARRAY = ResponseFormat(("array",), ("questionId",), ("prediction",))
MAPPING = ResponseFormat(("mapping",))
QUESTIONS = [
    Item(str(number), (), f"Is there a {name} in the image?", {"kind": "pope", "image": "a.jpg"})
    for number, name in enumerate(("dog", "cat"), start=1)
]
EXPECTED = [{"id": "1", "response": "yes"}, {"id": "2", "response": ""}]


def write(tmp_path, text: str):
    path = tmp_path / "answers.json"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("official", "text"),
    [
        (LINES, '{"id": "1", "response": "yes"}\n{"id": 2, "response": ""}\n'),
        (LINES, '{"question_id": 1, "answer": "yes"}\n\n{"question_id": 2, "text": ""}'),
        (LINES, '{"question_id": 1, "text": "Is it?", "answer": "yes"} {"id": 2, "answer": ""}'),
        (LINES, '{\n  "question_id": 1,\n  "text": "yes"\n}\n{"question_id": 2, "text": ""}'),
        (LINES, '\ufeff{"id": 1, "response": "yes"}\n{"id": 2, "response": ""}'),
        (LINES, '{"question": "is there a dog in the image?", "answer": "yes"}\n'
                '{"question": "Is there a cat in the image? One word.", "answer": ""}'),
        (ARRAY, '[{"questionId": "1", "prediction": "yes"}, '
                '{"questionId": "2", "prediction": ""}]'),
        (ARRAY, '{"id": 1, "response": "yes"}\n{"id": 2, "response": ""}'),
        (MAPPING, '{"1": "yes", "2": ""}'),
        (MAPPING, '{"id": "1", "response": "yes"}\n{"id": "2", "response": ""}'),
        (named("chair").responses, '{"imgToEval": {"a": {"image_id": 1, "caption": "yes"}, '
                                      '"b": {"image_id": "COCO_val2014_000000000002.jpg", '
                                      '"caption": ""}}}'),
        (named("chair").responses, '[{"id": 7, "image_id": 1, "caption": "yes"}, '
                                      '{"id": 8, "image_id": 2, "caption": ""}]'),
    ],
)  # fmt: skip
def test_layouts_of_official_scorers_and_our_own(tmp_path, official, text):
    assert read_responses(write(tmp_path, text), QUESTIONS, official) == EXPECTED


@pytest.mark.parametrize(
    ("official", "text", "words"),
    [
        (LINES, '[{"question_id": 1, "answer": "yes"}]', "is a JSON array of objects, where JSON"),
        (ARRAY, '{"questionId": 1, "prediction": "yes"}', r"is JSON lines, .*a JSON array .*is"),
        (ARRAY, '{"1": "yes"}', "is JSON lines"),
        (MAPPING, '[{"id": 1, "response": "yes"}]', "is a JSON array of objects, where one JSON"),
        (LINES, '{"id": 1, "response": "yes"}\n{"id": 2, "resp', "line 2: not JSON"),
        (LINES, "id,response\n1,yes", "line 1: not JSON"),
        (LINES, '{"id": 1, "response": "yes"}\n"no"', "line 2: 'no' is not an object"),
        (LINES, '{"id": 1, "prediction": "yes"}', "line 1: no response; write it as response or"),
        (LINES, '{"id": 1, "response": null}', "line 1: response is None, not a text"),
        (LINES, '{"id": 1, "response": ["yes"]}', r"line 1: response is .*, not a text"),
        (LINES, '{"id": 1.5, "response": "yes"}', r"line 1: id is 1\.5; write a number or a text"),
        (named("chair").responses, '{"image_id": "a.png", "caption": "A dog."}',
         "line 1: image_id: 'a.png' is not a COCO image"),
        (replace(LINES, questions=False),
         '{"question": "Is there a dog in the image?", "answer": "yes"}\n'
         '{"question": "Is there a cat in the image?", "answer": "yes"}', "2 of 2 rows have no id"),
        (LINES, '{"answer": "yes"}\n{"answer": "no"}', r"2 of 2 rows have no id; .*never by"),
        (LINES, '{"id": 1, "answer": "yes"}\n{"question": "x", "answer": ""}', "1 of 2 rows have"),
        (LINES, '{"question": "Is there a dog in the image?", "answer": "yes"}', "1 rows without"),
        (LINES, '{"question": "Is there a cat in the image?", "answer": "yes"}\n'
                '{"question": "Is there a dog in the image?", "answer": "yes"}',
         "2 of 2 questions are not the benchmark's at that place"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_named(tmp_path, official, text, words):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=words) as error:
        read_responses(path, QUESTIONS, official)
    assert str(path) in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"missing\.json: cannot be read"):
        read_responses(tmp_path / "missing.json")
    (tmp_path / "latin.json").write_bytes(b'{"id": "1", "response": "caf\xe9"}')
    with pytest.raises(InputError, match="is not UTF-8"):
        read_responses(tmp_path / "latin.json")


def test_whether_an_answer_ended_is_kept(tmp_path):
    path = write(tmp_path, json.dumps({"id": "1", "response": "a", "ended": False, "prompt": "b"}))
    assert read_responses(path) == [{"id": "1", "response": "a", "ended": False}]


def test_textvqa_answers_of_llava_are_joined_by_image_and_question(tmp_path):
    items = [
        Item(str(number), (), question, {"kind": "vqa", "image": f"{image}.jpg"})
        for number, (image, question) in enumerate(
            [("a1", "What does it say?"), ("a1", "What is the brand?"),
             ("b2", "What is the brand?")]
        )
    ]  # fmt: skip
    rows = [
        ("b2", "What is the brand?\nReference OCR token: NOKIA\nAnswer with one word."),
        ("a1", "OCR tokens: A, B\nQuestion: What is the brand? Short answer:"),
        ("a1", "What does it say?\nAnswer with one word."),
    ]
    text = "".join(
        json.dumps({"question_id": image, "prompt": prompt, "text": prompt[:4]}) + "\n"
        for image, prompt in rows
    )
    answers = read_responses(write(tmp_path, text), items, named("textvqa").responses)
    assert [answer["id"] for answer in answers] == ["2", "1", "0"]
