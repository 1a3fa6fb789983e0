"""How files of responses are laid out, as the benchmarks' official scorers take them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmpref.records.items import Item


@dataclass(frozen=True)
class ResponseFormat:
    """How an official scorer takes responses; our own lines `{"id", "response"}` always work too.

    `layout` is `lines` (an object per line), `array` or `mapping` (of ids to responses); `id` and
    `text` are the fields that may hold the item's id and the text, the first one present counts;
    `normal_id` maps an id as people write it to the item's. Where a format has no ids of its own,
    `find` maps the items to a function that returns the id of the one a row is about, or None; or,
    with `questions`, rows hold the questions instead, all of them in the benchmark's order.
    """

    layout: tuple[str, ...] = ("lines",)
    id: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    normal_id: Callable[[str], str] = str
    find: "Callable[[Sequence[Item]], Callable[[dict[str, Any]], str | None]] | None" = None
    questions: bool = False


OURS = ResponseFormat()
