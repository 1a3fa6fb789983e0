"""Conversations as others write them, and as the one text that a pair has for its prompt."""

from typing import Any, NamedTuple

from mmpref.records.rows import IMAGE_PLACEHOLDER, RowError

ROLES = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "system": "system",
}
IMAGE_PARTS = ("image", "image_url")


class Turn(NamedTuple):
    """What one side said: `user`, `assistant` or `system`. `<image>` stands for an image in it."""

    role: str
    text: str


def turns_of(field: str, messages: Any) -> list[Turn]:
    """Return the turns of a list of messages, {role, content} or LLaVA's {from, value}.

    The content is a text, or parts of types text and image. Raises RowError, naming `field`, when
    it is anything else.
    """
    if not isinstance(messages, list):
        raise RowError(field, _should_be("a list of messages", messages))
    return [turn_of(field, message) for message in messages]


def turn_of(field: str, message: Any) -> Turn:
    """Return the turn that a message is; see `turns_of`."""
    match message:
        case {"from": str(role), "value": content} | {"role": str(role), "content": content}:
            if role not in ROLES:
                raise RowError(field, f"has an unknown role ({role!r})")
            return Turn(ROLES[role], _text(field, content))
    raise RowError(field, "should hold messages with role and content, or from and value")


def last_answer(field: str, turns: list[Turn]) -> tuple[list[Turn], str]:
    """Return the turns before the last one, and the answer that it is."""
    if not turns or turns[-1].role != "assistant":
        raise RowError(field, "does not end with an answer")
    return turns[:-1], turns[-1].text


def prompt_of(turns: list[Turn], images: int = 1) -> str:
    """Return what was said before an answer as one text, without placeholders of images.

    A single question is its text, after that of the system where there is one. Before a question
    that continues a conversation stand the turns so far, each after `User:` or `Assistant:`.

    `images` is how many images the row has. A model sees all of them before the text, so several
    must stand at the beginning of the first question, and then there must be as many placeholders
    as images, or none. Raises RowError where that is not so, and when the last turn is not a
    question.
    """
    if not turns or turns[-1].role != "user":
        raise RowError("prompt", "does not end with a question")
    placeholders = sum(turn.text.count(IMAGE_PLACEHOLDER) for turn in turns)
    if placeholders not in (0, images):
        reason = f"does not have as many placeholders as images ({placeholders}, not {images})"
        raise RowError("prompt", reason)
    system = [turn.text for turn in turns if turn.role == "system"]
    said = [turn for turn in turns if turn.role != "system"]
    first = said[0].text.split(IMAGE_PLACEHOLDER)
    if placeholders > 1 and (len(first) <= placeholders or any(map(str.strip, first[:-1]))):
        raise RowError("prompt", "has text between its images, which a pair cannot hold")
    texts = [turn.text.replace(IMAGE_PLACEHOLDER, "").strip() for turn in said]
    if len(texts) > 1:
        labelled = zip(said, texts, strict=True)
        texts = [f"{turn.role.capitalize()}: {text}" for turn, text in labelled]
    return "\n\n".join([*system, *texts])


def _text(field: str, content: Any) -> str:
    match content:
        case str():
            return content
        case [*parts] if all(isinstance(part, dict) for part in parts):
            return "\n".join(filter(None, (_part(field, part) for part in parts)))
    raise RowError(field, _should_be("text", content))


def _part(field: str, part: dict[str, Any]) -> str | None:
    if part.get("type") in IMAGE_PARTS:
        return IMAGE_PLACEHOLDER
    if part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise RowError(field, f"has a part that is neither text nor image ({part.get('type')!r})")


def _should_be(wanted: str, value: Any) -> str:
    return "is missing" if value is None else f"should be {wanted} (is {type(value).__name__})"
