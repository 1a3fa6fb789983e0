import base64
import json
import logging
import re
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from judge_server import (
    BAD_KEY,
    CUT,
    HTML,
    MODEL,
    NO_CHOICES,
    REFUSED,
    JudgeServer,
    completion,
    error,
    late,
    text,
)
from PIL import Image

from mmpref.errors import InputError
from mmpref.scoring.judge import (
    Call,
    JudgeSettings,
    Plan,
    Reply,
    ask,
    image_part,
    judge_settings,
    plan,
    prompt_sha256,
    read_replies,
    totals,
    write_replies,
)
from mmpref.study.benchmarks import Judge

KEY = "sk-test/0123456789+abcdef"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """Neither a proxy nor an account of whoever runs the tests."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "openai_base_url", "openai_api_key"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def settings_for(server, **changes):
    values: dict[str, Any] = {"key": KEY, "concurrency": 1, "retries": 1, "timeout": 10.0} | changes
    return JudgeSettings(model=MODEL, url=server.url, **values)


def changed(settings, **changes):
    return settings.model_copy(update=changes)


def call(number, **changes):
    messages = ({"role": "user", "content": f"question {number}"},)
    values: dict[str, Any] = {"item": f"i{number}", "run": 0, "messages": messages}
    return Call(**values | {"max_tokens": 8} | changes)


def calls(count):
    return [call(number) for number in range(count)]


def anything(text):
    return True


def only(item, answer):
    """Answers `ok`, but to one question something else."""
    return lambda request: answer if request.prompt == f"question {item}" else text("ok")


def stored(path):
    """The rows of a store, whose every line has to be whole."""
    header, *rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert header == {"journal of": "judge replies"}
    return rows


def test_what_is_sent_and_what_comes_back(tmp_path):
    part = image_part(encoded("PNG"))
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Judge 🙂."},
        {"role": "user", "content": [{"type": "text", "text": "This?"}, part]},
    ]
    asked = Call("a", 2, messages, max_tokens=5, temperatures=(0.5, 1.0))
    with JudgeServer(text("Rating: 6")) as server:
        settings = settings_for(server)
        (reply,) = ask([asked], settings, tmp_path / "store", anything)
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body == {
        "model": MODEL,
        "messages": messages,
        "max_tokens": 5,
        "temperature": 0.5,
    }
    assert reply == Reply(
        item="a",
        run=2,
        attempt=0,
        prompt_sha256=prompt_sha256(asked, 0, settings),
        model=MODEL,
        text="Rating: 6",
        prompt_tokens=100,
        completion_tokens=10,
    )


@pytest.mark.parametrize(
    "bad",
    [error(408), error(409), error(429), error(500), error(503), HTML, NO_CHOICES, CUT,
     late(text("too late"), 5)],
    ids=["408", "409", "429", "500", "503", "html", "no choices", "cut", "timeout"],
)  # fmt: skip
def test_what_may_pass_is_tried_again(bad, tmp_path):
    with JudgeServer(bad) as server:
        settings = settings_for(server, timeout=1.0 if bad.delay else 10.0)
        (reply,) = ask([call(0)], settings, tmp_path / "store", anything)
    assert (reply.text, len(server.requests)) == ("ok", 2)


def test_a_retry_waits_as_long_as_the_server_says(tmp_path):
    # Without the header it would come after at most half a second.
    with JudgeServer(error(429, Retry_After="0.9")) as server:
        start = time.monotonic()
        ask([call(0)], settings_for(server), tmp_path / "store", anything)
        assert 0.9 <= time.monotonic() - start < 3
    with JudgeServer(otherwise=only(1, error(429, "come back tomorrow", Retry_After="86400"))) as s:
        replies = ask(calls(2), settings_for(s), tmp_path / "other", anything)
    assert replies[1].error == "HTTP 429: come back tomorrow"
    assert len(s.requests) == 2


@pytest.mark.parametrize(
    ("bad", "retries", "reason"),
    [
        (error(500), 2, "HTTP 500: out of order"),
        (error(402, "no credit"), 2, "HTTP 402: no credit"),
        (HTML, 1, "not JSON: <html>"),
        (NO_CHOICES, 0, "no choices: .*overloaded"),
        (completion(choices=[{"index": 0}]), 0, "no choices"),
        (CUT, 0, "without sending complete message body"),
        (late(text("too late"), 5), 0, "no reply within 1 s"),
        (REFUSED, 2, r"no text \(finish_reason content_filter\)"),
        (completion(choices=[{"message": {"refusal": "I won't."}}]), 2, "refusal: I won't"),
        (text([{"type": "text", "text": "part"}]), 2, "no text"),
        (error(400, "This model's maximum context length is 4096 tokens."), 2, "maximum context"),
        (error(400, "request (9 tokens) exceeds the available context size (8)"), 2, "size"),
        (error(400, "violates our content management policy"), 2, "content management"),
    ],
)
def test_a_failed_call_leaves_the_others_alone(bad, retries, reason, tmp_path):
    with JudgeServer(otherwise=only(1, bad)) as server:
        settings = settings_for(server, retries=retries, timeout=1.0 if bad.delay else 10.0)
        replies = ask(calls(3), settings, tmp_path / "store", anything)
    assert [reply.text for reply in replies] == ["ok", None, "ok"]
    assert re.search(reason, replies[1].error or "")
    # Everything but a clear answer is tried again.
    again = retries if bad in (error(500), HTML, NO_CHOICES) else 0
    assert len(server.requests) == 3 + again


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (error(400, "Unsupported parameter: max_tokens"), "Unsupported.*takes such requests"),
        (BAD_KEY, r"HTTP 401: Incorrect API key provided: \[key\]\.; check the key"),
        (error(403), "403.*may use this model"),
        (error(404, "no such model"), "no such model; check the model's name and the base URL"),
    ],
)
def test_what_will_not_pass_ends_the_run_at_once(answer, words, tmp_path):
    server = JudgeServer(text("ok"), otherwise=answer)
    with server, pytest.raises(InputError, match=words) as caught:
        ask(calls(9), settings_for(server, retries=5), tmp_path / "store", anything)
    assert len(server.requests) == 2
    assert server.url.split("/")[2] in str(caught.value)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert [row["text"] for row in stored(tmp_path / "store")] == ["ok"]


@pytest.mark.parametrize(("name", "shown"), [("judge-0", "'judge-0'"), (None, "''")])
def test_another_model_is_not_the_judge(name, shown, tmp_path):
    store = tmp_path / "store"
    with JudgeServer(text("ok"), otherwise=text("ok", model=name)) as server:
        with pytest.raises(InputError, match=f"asked '{MODEL}', but {shown} answered.*`returns`"):
            ask(calls(3), settings_for(server), store, anything)
        assert [row["text"] for row in stored(store)] == ["ok", None]
        if name:
            settings = settings_for(server, returns=["judge-0"])
            replies = ask(calls(3), settings, store, anything)
            assert [reply.model for reply in replies] == [MODEL, name, name]
            assert len(server.requests) == 4
            # Who no longer accepts the name does not get its replies out of the store.
            with pytest.raises(InputError, match="'judge-0' answered"):
                ask(calls(3), settings_for(server), store, anything)


def test_unusable_replies_are_asked_for_at_the_next_temperature(tmp_path):
    asked = [call(0, temperatures=(0.0, 0.5, 1.0)), call(1, temperatures=(0.0, 0.5))]
    garbage = [text("what?"), text("0.", "length"), text("3"), text("hm"), text("")]
    with JudgeServer(*garbage) as server:
        settings = settings_for(server)
        replies = ask(asked, settings, tmp_path / "store", str.isdigit)
        assert [request.body["temperature"] for request in server.requests] == [0, 0.5, 1, 0, 0.5]
        assert [(reply.item, reply.attempt, reply.text) for reply in replies] == [
            ("i0", 0, "what?"),
            ("i0", 1, "0."),
            ("i0", 2, "3"),
            ("i1", 0, "hm"),
            ("i1", 1, ""),
        ]
        assert ask(asked, settings, tmp_path / "store", str.isdigit) == replies
        assert len(server.requests) == 5


def test_a_rerun_asks_for_what_is_missing(tmp_path, capsys):
    store = tmp_path / "store"
    with JudgeServer(otherwise=only(1, error(500))) as server:
        settings = settings_for(server, retries=0)
        first = ask(calls(3), settings, store, anything)
    with JudgeServer() as server:
        again = ask(calls(5), changed(settings, url=server.url), store, anything)
        assert [request.prompt for request in server.requests] == [
            "question 1",
            "question 3",
            "question 4",
        ]
    assert [again[0], again[2]] == [first[0], first[2]]
    assert [reply.text for reply in again] == ["ok"] * 5
    assert "3 of 5 calls to make" in capsys.readouterr().err


def test_a_store_with_half_a_line_loses_that_line_only(tmp_path):
    store = tmp_path / "store"
    with JudgeServer() as server:
        settings = settings_for(server)
        replies = ask(calls(4), settings, store, anything)
        store.write_bytes(store.read_bytes()[:-40])
        assert plan(calls(4), settings, store).stored == 3
        assert ask(calls(4), settings, store, anything) == replies
        assert len(server.requests) == 5
    assert len(stored(store)) == 4


WORKER = """
import signal, sys
from pathlib import Path
from mmpref.scoring.judge import Call, JudgeSettings, ask
signal.signal(signal.SIGINT, signal.default_int_handler)
calls = [
    Call(f"i{n}", 0, ({"role": "user", "content": f"question {n}"},), 8) for n in range(8)
]
settings = JudgeSettings(model=sys.argv[1], url=sys.argv[2], concurrency=2)
ask(calls, settings, Path(sys.argv[3]), lambda text: True)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_keeps_what_it_had(how, tmp_path):
    store = tmp_path / "store"
    with JudgeServer(*[text("ok")] * 5, otherwise=late(text("ok"), 60)) as server:
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, MODEL, server.url, store], stderr=subprocess.PIPE
        )
        until = time.monotonic() + 30
        while len(server.requests) < 7 and time.monotonic() < until:
            time.sleep(0.01)
        worker.send_signal(how)
        worker.communicate(timeout=10)
        assert worker.returncode != 0
    assert len(stored(store)) == 5
    with JudgeServer() as server:
        settings = settings_for(server, concurrency=2)
        replies = ask(calls(8), settings, store, anything)
        assert len(server.requests) == 3
    assert [reply.text for reply in replies] == ["ok"] * 8


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [{"role": "user", "content": "question 0!"}]},
        {"max_tokens": 9},
        {"temperatures": (0.1,)},
        {"run": 1},
        {"item": "other"},
        {"model": "judge-2"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_prompts_are_asked_anew(change, tmp_path):
    with JudgeServer() as server:
        settings = settings_for(server, returns=[MODEL])
        ask([call(0)], settings, tmp_path / "store", anything)
        asked = call(0)
        if "model" in change:
            settings = changed(settings, **change)
        else:
            asked = replace(asked, **change)
        ask([asked], settings, tmp_path / "store", anything)
        assert len(server.requests) == 2
        # The first reply is still there for those who go back.
        ask([call(0)], settings_for(server), tmp_path / "store", anything)
        assert len(server.requests) == 2


def test_as_many_calls_run_at_a_time_as_allowed(tmp_path):
    with JudgeServer(otherwise=late(text("ok"), 0.05)) as server:
        ask(calls(12), settings_for(server, concurrency=3), tmp_path / "store", anything)
        assert server.peak == 3
        assert len(server.requests) == 12


@pytest.mark.parametrize("answer", [error(500), HTML, REFUSED], ids=["500", "html", "no text"])
@pytest.mark.parametrize(("count", "concurrency", "made"), [(40, 1, 5), (40, 8, 8), (3, 8, 3)])
def test_an_endpoint_that_gives_nothing_is_left(answer, count, concurrency, made, tmp_path):
    with JudgeServer(otherwise=answer) as server:
        settings = settings_for(server, concurrency=concurrency, retries=0)
        with pytest.raises(InputError, match=f"{made} calls in a row failed.*reason: "):
            ask(calls(count), settings, tmp_path / "store", anything)
    assert made <= len(server.requests) <= made + concurrency


def test_nobody_there(tmp_path):
    with JudgeServer() as server:
        settings = settings_for(server, retries=0)
    with pytest.raises(InputError, match=r"5 calls in a row failed.*[Cc]onnect"):
        ask(calls(9), settings, tmp_path / "store", anything)


def test_an_endpoint_that_dies_is_left(tmp_path):
    store = tmp_path / "store"
    with JudgeServer(*[text("ok")] * 4, otherwise=error(500)) as server:
        settings = settings_for(server, retries=0)
        with pytest.raises(InputError, match="5 calls in a row"):
            ask(calls(40), settings, store, anything)
        assert len(server.requests) in (9, 10)
        # Two that fail now say little about an endpoint that worked.
        assert [r.text for r in ask(calls(6), settings, store, anything)] == ["ok"] * 4 + [None] * 2


def test_an_endpoint_that_refuses_many_questions_is_alive(tmp_path):
    with JudgeServer(text("ok"), otherwise=REFUSED) as server:
        replies = ask(calls(12), settings_for(server), tmp_path / "store", anything)
        assert sum(reply.error is not None for reply in replies) == 11
        # Nor are they in the way of a run that was stopped.
        assert len(ask(calls(12), settings_for(server), tmp_path / "store", anything)) == 12
        assert len(server.requests) == 12 + 11


def test_the_key_is_nowhere(tmp_path, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    seen = []
    store = tmp_path / "store"
    echo = [error(500, "{key} failed"), HTML, text(f"I know {KEY}"), text(None, f"stop {KEY}")]
    padded = [error(500, "x" * 290 + "{key}"), error(429, "{key}" * 40)]
    with JudgeServer(text("ok"), *echo, *padded, otherwise=BAD_KEY) as server:
        settings = settings_for(server, retries=0)
        with pytest.raises(InputError) as caught:
            ask(calls(9), settings, store, anything)
        seen += traceback.format_exception(caught.value)
    with JudgeServer(text("ok", model=f"m {KEY}")) as server:
        with pytest.raises(InputError) as caught:
            ask([call(10)], settings_for(server), store, anything)
        seen += traceback.format_exception(caught.value)
        seen += [repr(settings), settings.model_dump_json(), str(plan(calls(1), settings, store))]
    replies = [Reply(**row) for row in stored(store)]
    write_replies(tmp_path / "judgements.jsonl", replies)
    seen += [file.read_text() for file in tmp_path.iterdir()] + [*capfd.readouterr(), caplog.text]
    assert len(replies) == 8
    assert replies[3].text == "I know [key]"
    for start in range(len(KEY) - 8):
        assert not any(KEY[start : start + 9] in shown for shown in seen)


def test_the_environments_key_does_not_go_to_an_endpoint_without_one(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with JudgeServer() as server:
        ask([call(0)], settings_for(server, key=None), tmp_path / "store", anything)
    assert KEY not in str(server.requests)


def test_a_placeholder_for_a_key_changes_no_reply(tmp_path):
    with JudgeServer(text("none of them")) as server:
        (reply,) = ask([call(0)], settings_for(server, key="none"), tmp_path / "store", anything)
    assert reply.text == "none of them"


@pytest.mark.parametrize(
    ("answer", "content", "tokens"),
    [
        (text("half \ud83d"), "half ?", 110),
        (text("ok", usage=None), "ok", 0),
        (text("ok", usage={"prompt_tokens": None}), "ok", 0),
        (replace(text("ok"), headers={"Content-Type": "text/plain"}), "ok", 110),
        (completion(choices=[{"message": {"content": "ok"}}]), "ok", 110),
    ],
)
def test_sloppy_replies_are_read(answer, content, tokens, tmp_path):
    with JudgeServer(answer) as server:
        (reply,) = ask([call(0)], settings_for(server), tmp_path / "store", anything)
    assert (reply.text, reply.prompt_tokens + reply.completion_tokens) == (content, tokens)
    write_replies(tmp_path / "replies", [reply])
    assert read_replies(tmp_path / "replies") == {"i0": [reply]}


def test_a_call_is_made_once(tmp_path):
    with pytest.raises(ValueError, match="i0"), JudgeServer() as server:
        ask([call(0), call(0)], settings_for(server), tmp_path / "store", anything)


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", " http://localhost:8000/v1\n")
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    judge = Judge(model="m", concurrency=3, returns=["m-1"])
    settings = judge_settings(judge)
    assert settings == JudgeSettings(**judge.model_dump(), url="http://localhost:8000/v1", key=KEY)
    assert settings.host == "localhost:8000"
    assert judge_settings(Judge(model="m", key_variable=None)).key is None
    monkeypatch.setenv("MY_URL", "https://example.org/api")
    monkeypatch.setenv("MY_KEY", "other")
    own = judge_settings(Judge(model="m", url_variable="MY_URL", key_variable="MY_KEY"))
    assert (own.url, own.key) == ("https://example.org/api", "other")


@pytest.mark.parametrize(
    ("url", "key", "words"),
    [
        (None, KEY, "OPENAI_BASE_URL is not set.*vLLM.*needs no key"),
        ("", KEY, "OPENAI_BASE_URL is not set"),
        ("localhost:8000/v1", KEY, "OPENAI_BASE_URL is not a URL"),
        ("http://me:secret@host/v1", KEY, "OPENAI_BASE_URL holds a user"),
        ("http://host/v1", None, "OPENAI_API_KEY is not set; set it to the key of host.*llama.cpp"),
        ("http://host/v1", " ", "OPENAI_API_KEY is not set"),
        ("http://host/v1", "two\nlines", "OPENAI_API_KEY holds characters"),
    ],
)
def test_an_environment_that_says_too_little(url, key, words, monkeypatch):
    for name, value in (("OPENAI_BASE_URL", url), ("OPENAI_API_KEY", key)):
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=words) as caught:
        judge_settings(Judge(model="m"))
    assert KEY not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_dry_run_asks_nothing(tmp_path):
    store = tmp_path / "store"
    image = [{"type": "text", "text": "12345"}, image_part(encoded("PNG"))]
    asked = [*calls(3), call(3, messages=[{"role": "user", "content": image}], max_tokens=100)]
    with JudgeServer() as server:
        settings = settings_for(server, input_price=2.0, output_price=10.0)
        # 3 x 10 characters and 5 are 35; 3 x 8 and 100 tokens come back.
        first = plan(asked, settings, store)
        price: Any = pytest.approx((9 * 2 + 124 * 10) / 1e6)
        assert first == Plan(4, 0, 9, 1, 124, price)
        assert (server.requests, list(tmp_path.iterdir())) == ([], [])
        assert "4 of 4 calls to make: about 9 prompt tokens (characters / 4) and 1 im" in str(first)
        ask(calls(3), settings, store, anything)
        before = store.read_bytes()
        assert plan(asked, changed(settings, input_price=None), store) == Plan(
            4, 3, 2, 1, 100, None
        )
        assert (len(server.requests), store.read_bytes()) == (3, before)


def test_totals_by_hand():
    def reply(item, run=0, attempt=0, **rest):
        return Reply(item, run, attempt, "", prompt_tokens=50, completion_tokens=4, **rest)

    replies = [
        reply("a", attempt=1, model="m", text="3"),
        reply("a", model="m", text="?"),
        reply("a", run=1, model="n", text="3"),
        reply("b", model="m", text="?"),
        reply("b", attempt=1, model="m", error="no text"),
        Reply("c", 0, 0, "", error="HTTP 500"),
    ]
    settings = Judge(model="m", input_price=30.0, output_price=60.0)
    assert totals(replies, settings) == {
        "calls": 4,
        "failures": 2,
        "attempts": 6,
        "prompt_tokens": 250,
        "completion_tokens": 20,
        "cost": pytest.approx((250 * 30 + 20 * 60) / 1e6),
        "models": ["m", "n"],
    }
    assert totals(replies, changed(settings, output_price=None))["cost"] is None


def test_replies_survive_the_file(tmp_path):
    path = tmp_path / "judgements.jsonl"
    of_a = [Reply("a", run, attempt, "", text="é\n🙂") for run in (0, 1) for attempt in (0, 1)]
    of_b = [Reply("b", 0, 0, "0f", error="HTTP 500")]
    write_replies(path, [*of_a[::-1], *of_b])
    assert read_replies(path) == {"a": of_a, "b": of_b}
    write_replies(path, [])
    assert read_replies(path) == {}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"item": "b", "run": 0', r"line 2: not JSON"),
        ('{"item": "b", "run": 0, "attempt": 0}', "line 2: prompt_sha256"),
        ('{"item": "b", "run": "0", "attempt": 0, "prompt_sha256": ""}', "line 2: run"),
        ("", "line 2: not JSON"),
        ("[]", "line 2"),
    ],
)
def test_damaged_files_of_replies_are_named(line, words, tmp_path):
    path = tmp_path / "judgements.jsonl"
    write_replies(path, [Reply("a", 0, 0, "")])
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(InputError, match=rf"judgements\.jsonl: {words}.*judge again"):
        read_replies(path)
    with pytest.raises(InputError, match="missing: cannot be read"):
        read_replies(tmp_path / "missing")


def encoded(kind, **options):
    file = BytesIO()
    Image.new("RGB", (4, 4), "red").save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "media_type", "same"),
    [
        ("PNG", "image/png", True),
        ("JPEG", "image/jpeg", True),
        ("MPO", "image/jpeg", True),
        ("WEBP", "image/webp", True),
        ("BMP", "image/png", False),
        ("TIFF", "image/png", False),
    ],
)
def test_images_become_data_urls(kind, media_type, same):
    options = {"save_all": True, "append_images": [Image.new("RGB", (2, 2))]}
    data = encoded(kind, **options if kind == "MPO" else {})
    part = image_part(data)
    assert part["type"] == "image_url"
    head, _, content = part["image_url"]["url"].partition(";base64,")
    assert head == f"data:{media_type}"
    sent = base64.b64decode(content)
    assert (sent == data) == same
    assert Image.open(BytesIO(sent)).size == (4, 4)


def test_what_is_no_image_is_not_sent():
    with pytest.raises(InputError, match="is not an image"):
        image_part(b"<svg/>")
