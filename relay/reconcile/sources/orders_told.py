"""Takes out of a platform's answer what a comparison reads, and nothing else: an order has names and addresses too."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from relay.reconcile.job import PlatformReply
from relay.reconcile.sources.record import text_of, value_at


class ReadOfAnswer(NamedTuple):
    """Where an answer holds what is compared; paths are JMESPaths, an empty one is the answer itself or nothing."""

    items_at: str
    cursor: str
    columns: Sequence[str]  # key, status, time and the further ones


def page_of(document: Any, reply: PlatformReply, where: ReadOfAnswer) -> PlatformReply:
    """Return ``reply`` with the orders on a page, and the cursor of the next one."""
    items = value_at(where.items_at)(document) if where.items_at else document
    cursor = value_at(where.cursor)(document) if where.cursor else None
    find = [value_at(path) for path in where.columns]
    rows = [_row(item, find) for item in items] if isinstance(items, list) else None
    told = "" if cursor in (None, False, 0) else _written(str(cursor))
    return replace(reply, rows=rows, absent=items is None and _holds_page(document, where.items_at), cursor=told)


def order_of(document: Any, reply: PlatformReply, where: ReadOfAnswer) -> PlatformReply:
    """Return ``reply`` with the one order that it is about: the first of the list that pages hold, else the answer."""
    items = value_at(where.items_at)(document) if where.items_at else document
    if isinstance(items, list):
        items = items[0] if items else None
    elif items is None:
        items = document
    return replace(reply, rows=[_row(items, [value_at(path) for path in where.columns])])


def _holds_page(document: Any, items_at: str) -> bool:
    """Return whether an answer without the list still is a page: it has the object in which the list would lie, or
    nothing at all.

    So ``{"data": {"total": 0}}`` is an empty page of ``data.orders``, and ``{"code": 500, "data": null}`` is none.
    """
    place, dot, _ = items_at.partition(".")
    if not isinstance(document, dict) or not document:
        return document == {}
    return bool(dot) and isinstance(document.get(place.strip('"')), dict)


def _row(item: Any, find: Sequence[Callable[[Any], Any]]) -> list[str]:
    return [_written(text_of(each(item))) for each in find]


def _written(text: str) -> str:
    """Return a text as UTF-8 can hold it: of half a character a question mark is left."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
