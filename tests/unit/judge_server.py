"""A judge for tests: a real HTTP server on the loopback interface, as badly behaved as told."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

MODEL = "judge-1"


@dataclass(frozen=True)
class Answer:
    """What goes back for one request, `delay` seconds after it came.

    `{key}` in the body becomes the key that was sent. With `cut` the connection ends in mid-body.
    """

    body: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False


def completion(**changes: Any) -> Answer:
    """A chat completion; `changes` replace its fields, None removes them."""
    content = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        **changes,
    }
    body = json.dumps({name: value for name, value in content.items() if value is not None})
    return Answer(body, headers={"Content-Type": "application/json"})


def text(content: str | None, finish_reason: str = "stop", **changes: Any) -> Answer:
    """A reply with a text; None is what refusals and filtered replies have."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return completion(choices=[choice], **changes)


def late(answer: Answer, seconds: float) -> Answer:
    return replace(answer, delay=seconds)


def error(status: int, message: str = "out of order", **headers: str) -> Answer:
    """An HTTP error; a retry of it need not wait, unless the headers say so."""
    body = json.dumps({"error": {"message": message, "type": "error", "code": None}})
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(body, status, {"Content-Type": "application/json", "Retry-After": "0.01"} | given)


HTML = Answer(
    "<html><body>Please log in, {key}</body></html>", headers={"Content-Type": "text/html"}
)
CUT = replace(text("never arrives"), cut=True)
NO_CHOICES = completion(error={"message": "overloaded"})
REFUSED = text(None, "content_filter")
BAD_KEY = error(401, "Incorrect API key provided: {key}.")


@dataclass(frozen=True)
class Request:
    """What a client sent; the names of headers are in lower case."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        """The text of its last message."""
        content = self.body["messages"][-1]["content"]
        if isinstance(content, str):
            return content
        return " ".join(part["text"] for part in content if part["type"] == "text")


class JudgeServer:
    """Answers the first requests with `answers`, in this order, all others as `otherwise` says.

    `requests` are what came, `peak` is how many were open at the same time.
    """

    def __init__(
        self,
        *answers: Answer,
        otherwise: Answer | Callable[[Request], Answer] | None = None,
    ) -> None:
        self._answers = list(answers)
        self._otherwise = text("ok") if otherwise is None else otherwise
        self._lock = threading.Lock()
        self._open = 0
        self._closing = threading.Event()
        self.requests: list[Request] = []
        self.peak = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def begin(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            self._open += 1
            self.peak = max(self.peak, self._open)
            if self._answers:
                return self._answers.pop(0)
        return self._otherwise(request) if callable(self._otherwise) else self._otherwise

    def end(self, answer: Answer) -> None:
        self._closing.wait(answer.delay)
        with self._lock:
            self._open -= 1

    def __enter__(self) -> Self:
        poll = {"poll_interval": 0.01}
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs=poll, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(judge: JudgeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: two would wait for each other's receipt

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.path, headers, json.loads(data))
            answer = judge.begin(request)
            judge.end(answer)
            key = self.headers.get("Authorization", "").removeprefix("Bearer ")
            body = answer.body.replace("{key}", key).encode()
            try:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if answer.cut else body)
                self.close_connection = answer.cut
                self.wfile.flush()
            except OSError:  # the client did not wait
                self.close_connection = True

        def log_message(self, *words: Any) -> None:
            pass

    return Handler
