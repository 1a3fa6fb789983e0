"""A judge model behind an OpenAI-compatible chat endpoint.

Every reply is stored as it comes, so that a run that was stopped asks only for what is missing.
The key is sent to the endpoint and appears nowhere else.
"""

import asyncio
import base64
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from PIL import Image
from pydantic import Field, TypeAdapter, ValidationError

from mmpref.errors import InputError
from mmpref.files import replacing
from mmpref.journal import Journal
from mmpref.progress import say, track
from mmpref.records.images import FORMATS, storable_image
from mmpref.study.benchmarks import Judge

if TYPE_CHECKING:  # half a second to import, and most who import this module ask nothing
    from openai import AsyncOpenAI

_FREE = "a local server with the same API (vLLM, llama.cpp, Ollama) costs nothing and needs no key"

_HINTS = {
    400: "check that this model takes such requests (model name, max_tokens, temperature, images)",
    401: "check the key",
    403: "check the key, and that it may use this model",
    404: "check the model's name and the base URL, which ends before /chat/completions",
}

# The only 400 that says nothing about the other calls: this prompt is too long, or filtered.
_ABOUT_ONE_PROMPT = re.compile(
    "context[ _](length|size|window)|maximum model length|content[ _](filter|management|policy)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Call:
    """One question to the judge about the response to `item`, for judge run `run` (from 0).

    `messages` are in the form of the chat API, images as from `image_part`. The judge is asked at
    each of `temperatures` in turn until its reply is usable.
    """

    item: str
    run: int
    messages: Sequence[dict[str, Any]]
    max_tokens: int
    temperatures: tuple[float, ...] = (0.0,)


@dataclass(frozen=True)
class Reply:
    """What came back for a call at the temperature of number `attempt`: `text`, or an `error`.

    `model` is the name the endpoint returned, None when it returned no reply at all; `score` what
    the strict reading made of the text when it came (scorers read the text again).
    """

    item: str
    run: int
    attempt: int
    prompt_sha256: str
    model: str | None = None
    text: str | None = None
    error: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    score: Any = None


class JudgeSettings(Judge):
    """A study's judge and where it is: the base URL (".../v1"), and the key if it needs one."""

    url: str = Field(repr=False)
    key: str | None = Field(None, repr=False, exclude=True)

    @property
    def host(self) -> str:
        """The part of `url` that messages show."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def names(self) -> set[str]:
        """The names under which replies count."""
        return {self.model, *self.returns}


@dataclass(frozen=True)
class Plan:
    """What asking would take: of `calls` calls, `stored` have a text in the store already.

    The others, each asked once, take about `prompt_tokens` (a quarter of the characters of their
    text), besides `images`, and at most `completion_tokens` for `cost` (None: prices unknown).
    """

    calls: int
    stored: int
    prompt_tokens: int
    images: int
    completion_tokens: int
    cost: float | None

    def __str__(self) -> str:
        images = f" and {self.images:,} images, whose tokens are not counted" * bool(self.images)
        cost = "prices unknown" if self.cost is None else f"at most about {self.cost:.2f}"
        return (
            f"{self.calls - self.stored:,} of {self.calls:,} calls to make: about "
            f"{self.prompt_tokens:,} prompt tokens (characters / 4){images}, at most "
            f"{self.completion_tokens:,} completion tokens, {cost}; asking again after an unusable "
            "reply comes on top"
        )


def judge_settings(judge: Judge, asks: bool = True) -> JudgeSettings:
    """Return a study's judge with URL and key from the environment, which counts only if it `asks`.

    Raises InputError when a variable is not set or holds no URL or no key.
    """
    if not asks:
        return JudgeSettings(**judge.model_dump(), url="")
    url = os.environ.get(judge.url_variable, "").strip()
    if not url:
        raise InputError(
            f"{judge.url_variable} is not set; set it to the base URL of the judge's endpoint, for "
            f"example http://localhost:8000/v1: {_FREE}"
        )
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"{judge.url_variable} is not a URL; write it like http://localhost:8000/v1"
        )
    if "@" in parts.netloc:
        raise InputError(f"{judge.url_variable} holds a user or a password; leave only the host")
    key = None
    if judge.key_variable is not None:
        key = os.environ.get(judge.key_variable, "").strip()
        if not key:
            raise InputError(
                f"{judge.key_variable} is not set; set it to the key of {parts.hostname}, or name "
                f"no key variable where none is needed: {_FREE}"
            )
        if not (key.isascii() and key.isprintable()):
            raise InputError(f"{judge.key_variable} holds characters no key has; copy it again")
    return JudgeSettings(**judge.model_dump(), url=url, key=key)


def image_part(data: bytes) -> dict[str, Any]:
    """Return an image file as a part of a message; what endpoints may not read becomes a PNG.

    Raises InputError as `mmpref.records.images.storable_image` does.
    """
    data = storable_image(data)
    with Image.open(BytesIO(data), formats=FORMATS) as image:
        kind = str(image.format).lower().replace("mpo", "jpeg")
    url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def prompt_sha256(call: Call, attempt: int, judge: Judge) -> str:
    """Return the digest of all that is sent to the model at an attempt."""
    content = json.dumps(_request(call, attempt, judge), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def ask(
    calls: Sequence[Call],
    settings: JudgeSettings,
    store: Path,
    usable: Callable[[str], bool],
    parse: Callable[[str], Any] = lambda text: None,
) -> list[Reply]:
    """Return the replies to all calls, in their order: every attempt of each.

    The last reply to a call is `usable`, or the one at the last temperature, or a failure (its
    `error` says why). `store` keeps everything that comes back, with the score that `parse` finds
    in it; what it holds for the same prompt and temperature is not asked again, but for failures.

    Raises InputError when the endpoint refuses the key, the model or the request (HTTP 400, 401,
    403, 404), when another model answers, and when nothing works: as many calls failed in a row
    as are asked at a time, and at least five; or all, if they are fewer and none ever worked.
    """
    twice = [key for key, times in Counter((c.item, c.run) for c in calls).items() if times > 1]
    if twice:
        raise ValueError(f"several calls for item and run {twice[0]}")
    # No settings in the name: the replies of several models may be in one store.
    with Journal(store, "judge replies") as journal:
        known = _known(store, settings)
        missing = [call for call in calls if not _so_far(call, settings, known, usable)[1]]
        if missing:
            say(
                f"judge {settings.model} at {settings.host}: {len(missing)} of {len(calls)} calls "
                f"to make, replies go to {store}"
            )
            asyncio.run(_ask(missing, settings, known, journal, usable, parse))
    return [reply for call in calls for reply in _so_far(call, settings, known, usable)[0]]


def plan(calls: Sequence[Call], settings: JudgeSettings, store: Path) -> Plan:
    """Return what `ask` would take. Nothing is sent, and `store` stays as it is."""
    known = _known(store, settings) if store.exists() else {}
    rest = [call for call in calls if _key(call, 0, settings) not in known]
    contents = [message["content"] for call in rest for message in call.messages]
    parts = [
        part
        for content in contents
        for part in ([{"type": "text", "text": content}] if isinstance(content, str) else content)
    ]
    characters = sum(len(part["text"]) for part in parts if part["type"] == "text")
    prompt_tokens = -(-characters // 4)
    completion_tokens = sum(call.max_tokens for call in rest)
    return Plan(
        calls=len(calls),
        stored=len(calls) - len(rest),
        prompt_tokens=prompt_tokens,
        images=sum(part["type"] == "image_url" for part in parts),
        completion_tokens=completion_tokens,
        cost=_cost(prompt_tokens, completion_tokens, settings),
    )


def totals(replies: Sequence[Reply], judge: Judge) -> dict[str, Any]:
    """Return what asking took: calls, failures, attempts, tokens, cost, names of the models.

    A call failed when its last attempt brought no text. The cost is None if a price is unknown.
    """
    last = {(reply.item, reply.run): reply for reply in sorted(replies, key=lambda r: r.attempt)}
    prompt_tokens = sum(reply.prompt_tokens for reply in replies)
    completion_tokens = sum(reply.completion_tokens for reply in replies)
    return {
        "calls": len(last),
        "failures": sum(reply.text is None for reply in last.values()),
        "attempts": len(replies),
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "cost": _cost(prompt_tokens, completion_tokens, judge),
        "models": sorted({reply.model for reply in replies if reply.model}),
    }


def write_replies(path: str | Path, replies: Iterable[Reply]) -> None:
    """Write replies as JSON Lines."""
    lines = (json.dumps(vars(reply), ensure_ascii=False) + "\n" for reply in replies)
    with replacing(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def read_replies(path: str | Path) -> dict[str, list[Reply]]:
    """Return the replies in a file by item, ordered by run, then attempt.

    Raises InputError when the file cannot be read or a line is not a reply.
    """
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); judge again") from None
    replies = []
    for number, line in enumerate(lines, start=1):
        try:
            replies.append(_REPLY.validate_json(line, strict=True))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "not JSON"
            raise InputError(
                f"{path}: line {number}: {place}: {first['msg']}; judge again, what is in the "
                "store is not asked anew"
            ) from None
    return by_item(replies)


def by_item(replies: Iterable[Reply]) -> dict[str, list[Reply]]:
    """Return replies by item, ordered by run, then attempt."""
    found: dict[str, list[Reply]] = {}
    for reply in sorted(replies, key=lambda reply: (reply.run, reply.attempt)):
        found.setdefault(reply.item, []).append(reply)
    return found


_REPLY = TypeAdapter(Reply)
_Known = dict[tuple[str, int, int, str], Reply]


def _request(call: Call, attempt: int, judge: Judge) -> dict[str, Any]:
    return {
        "model": judge.model,
        "messages": list(call.messages),
        "max_tokens": call.max_tokens,
        "temperature": float(call.temperatures[attempt]),
    }


def _key(call: Call, attempt: int, judge: Judge) -> tuple[str, int, int, str]:
    return call.item, call.run, attempt, prompt_sha256(call, attempt, judge)


def _known(store: Path, settings: JudgeSettings) -> _Known:
    """Return the texts in a store that this judge gave."""
    known: _Known = {}
    for line in store.read_bytes().splitlines():
        try:
            reply = _REPLY.validate_json(line, strict=True)
        except ValidationError:  # the store's first line, or a last one that is only half there
            continue
        if reply.text is not None and reply.model in settings.names:
            known[reply.item, reply.run, reply.attempt, reply.prompt_sha256] = reply
    return known


def _so_far(
    call: Call, settings: JudgeSettings, known: _Known, usable: Callable[[str], bool]
) -> tuple[list[Reply], bool]:
    """Return the replies to a call that are known, and whether nothing is left to ask."""
    replies: list[Reply] = []
    for attempt in range(len(call.temperatures)):
        reply = known.get(_key(call, attempt, settings))
        if reply is None:
            return replies, False
        replies.append(reply)
        if reply.text is None or usable(reply.text):
            break
    return replies, True


async def _ask(
    calls: Sequence[Call],
    settings: JudgeSettings,
    known: _Known,
    journal: Journal,
    usable: Callable[[str], bool],
    parse: Callable[[str], Any],
) -> None:
    """Add the replies to all calls to `known`, failures included."""
    slots = asyncio.Semaphore(settings.concurrency)

    async def finish(call: Call) -> Reply:
        """Return the last reply to a call."""
        # The slot is not given back by an error: nothing is sent after a call that ends the run.
        await slots.acquire()
        while True:
            replies, complete = _so_far(call, settings, known, usable)
            if complete:
                slots.release()
                return replies[-1]
            reply = await _once(client, call, len(replies), settings)
            if reply.text is not None:
                reply = replace(reply, score=parse(reply.text))
            journal.append([vars(reply)])
            if reply.model is not None and reply.model not in settings.names:
                raise InputError(
                    f"judge at {settings.host}: asked {settings.model!r}, but {reply.model!r} "
                    f"answered; if that is the judge you mean, add {reply.model!r} to `returns`, "
                    "otherwise ask for another model"
                )
            known[_key(call, reply.attempt, settings)] = reply

    async with _client(settings) as client:
        worked, failed = bool(known), 0
        # So many calls in a row without a text are no accident.
        limit = max(5, settings.concurrency)
        tasks = [asyncio.create_task(finish(call)) for call in calls]
        try:
            for task in track(asyncio.as_completed(tasks), "judge", total=len(tasks)):
                reply = await task
                # An endpoint that refuses single questions is not dead: it did answer.
                if reply.text is not None or (worked and reply.model is not None):
                    worked, failed = True, 0
                else:
                    failed += 1
                if failed >= (limit if worked else min(limit, len(tasks))):
                    raise InputError(
                        f"judge {settings.model} at {settings.host}: {failed} calls in a row "
                        f"failed, the last one for this reason: {reply.error}; once the endpoint "
                        f"works, run it again: the replies so far are in {journal.path}"
                    )
        finally:
            for started in tasks:
                started.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _client(settings: JudgeSettings) -> "AsyncOpenAI":
    """Return a client that takes what is not a chat completion for a failure of the connection.

    So the SDK's retries (with back-off, or after as long as `Retry-After` says) are for it too.
    """
    import httpx2
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    async def check(response: httpx2.Response) -> None:
        if not response.is_success:
            return
        body = await response.aread()
        try:
            match json.loads(body):
                case {"choices": [{"message": {}}, *_]}:
                    return
            problem = "has no choices"
        except ValueError:
            problem = "is not JSON"
        raise httpx2.RemoteProtocolError(
            f"the reply {problem}: {body.decode(errors='replace')}", request=response.request
        )

    return AsyncOpenAI(
        base_url=settings.url,
        # With None the SDK would take the one in OPENAI_API_KEY, meant for another endpoint.
        api_key=settings.key or "none",
        max_retries=settings.retries,
        timeout=settings.timeout,
        http_client=DefaultAsyncHttpxClient(event_hooks={"response": [check]}),
    )


async def _once(client: "AsyncOpenAI", call: Call, attempt: int, settings: JudgeSettings) -> Reply:
    """Return what comes back for one attempt.

    Raises InputError when the endpoint says that asking further calls is of no use.
    """
    import httpx2
    from openai import APIError, APITimeoutError

    request = _request(call, attempt, settings)
    reply = Reply(call.item, call.run, attempt, prompt_sha256(call, attempt, settings))
    try:
        # The response as it comes: servers leave out fields that the SDK's types promise.
        response = await client.post("/chat/completions", body=request, cast_to=httpx2.Response)
    except APIError as error:
        status = getattr(error, "status_code", None)
        if isinstance(error, APITimeoutError):
            reason = f"no reply within {settings.timeout:g} s"
        elif status:
            message = error.body.get("message") if isinstance(error.body, dict) else None
            reason = f"HTTP {status}: {message or error.body}"
        else:
            reason = str(error.__cause__ or error) or type(error.__cause__ or error).__name__
        reason = _short(reason, settings.key)
        if status in _HINTS and not (status == 400 and _ABOUT_ONE_PROMPT.search(str(error.body))):
            raise InputError(
                f"judge {settings.model} at {settings.host}, item {call.item!r}: {reason}; "
                f"{_HINTS[status]}"
            ) from None
        return replace(reply, error=reason)
    body = response.json()
    choice, model, usage = body["choices"][0], body.get("model") or "", body.get("usage") or {}
    content, refusal = choice["message"].get("content"), choice["message"].get("refusal")
    text = failure = None
    if model not in settings.names:
        failure = "another model answered"
    elif isinstance(content, str):
        # Shorter keys are placeholders ("none", "EMPTY") that a judge may well write.
        text = _clean(content, settings.key if len(settings.key or "") >= 16 else None)
    else:
        failure = f"no text (finish_reason {choice.get('finish_reason')})"
        failure += f", refusal: {refusal}" if refusal else ""
    return replace(
        reply,
        model=_clean(model, settings.key),
        text=text,
        error=failure and _short(failure, settings.key),
        prompt_tokens=usage.get("prompt_tokens") or 0,
        completion_tokens=usage.get("completion_tokens") or 0,
    )


def _clean(text: str, key: str | None) -> str:
    """Return a text without the key and without half an emoji, at which few tokens may end."""
    return (text.replace(key, "[key]") if key else text).encode(errors="replace").decode()


def _short(text: str, key: str | None) -> str:
    text = " ".join(_clean(text, key).split())
    return text if len(text) <= 300 else f"{text[:300]}..."


def _cost(prompt_tokens: int, completion_tokens: int, judge: Judge) -> float | None:
    if judge.input_price is None or judge.output_price is None:
        return None
    return (prompt_tokens * judge.input_price + completion_tokens * judge.output_price) / 1_000_000
