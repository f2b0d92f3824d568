"""Envelopes that put the payloads into an object or a form of the platform's own, described by the configuration.

``items_at`` names where the list of items goes; without it a body is one item, built by ``item``. With no ``item``
mapping the payloads are spliced as they came.
"""

import copy
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote_plus

from relay.core.errors import Unfit
from relay.core.model import Item
from relay.core.raw import JsonObject
from relay.wire.envelopes.plain import JSON, all_spliced, each, only, spliced
from relay.wire.payload.fields import FieldMap, ItemMapping, as_text, json_bytes

StaticFields = JsonObject
"""The fields that every body has, with their JSON values: ``{"app_key": "12", "v": 2}``."""

_FORM: Final = "application/x-www-form-urlencoded"
_PLACE: Final = "\0items"


class ObjectEnvelope:
    """A JSON object: ``static`` fields, and the items as a list at the dotted path ``items_at``.

    Without ``items_at`` it is one callback's: the fields of ``item`` beside the static ones. Raises ``ValueError``,
    saying what to write, for settings that contradict each other.
    """

    kind: Final = "object"
    needs_json: Final = True

    def __init__(self, *, items_at: str | None, static: StaticFields, item: FieldMap | None) -> None:
        self._item = ItemMapping(item) if item else None
        self.max_items = None if items_at else 1
        self.measured = self._item is not None
        if items_at:
            self._before, self._after = _around(static, items_at.split("."))
            self.item_bytes = 1  # "[" in the frame and "," or "]" after each item
            self.frame_bytes = len(self._before) + len(self._after) + 1
            return
        if not item:
            raise ValueError("envelope object needs items_at, where the list of callbacks goes, or item, a mapping")
        both = next((name for name in item if name in static), None)
        if both is not None:
            raise ValueError(f"{both} is both in static and in item")
        self._before, self._after = (json_bytes(static)[:-1] + b"," if static else b"{"), b""
        self.item_bytes = 0
        self.frame_bytes = len(self._before) - 1  # the item's own "{" is left away

    def size(self, payload: bytes, key: str | None, event: str | None) -> int:
        """Return the length of the item in the body."""
        return len(payload if self._item is None else self._item(payload))

    def build(self, items: Sequence[Item]) -> tuple[bytes, str]:
        """Return the object."""
        item = self._item
        made = all_spliced(items) if item is None else each(items, lambda one: item(one.payload))
        if self.max_items == 1:
            only(items, self.kind)
            return self._before + made[0][1:], JSON
        return b"%b[%b]%b" % (self._before, b",".join(made), self._after), JSON


class FormEnvelope:
    """``application/x-www-form-urlencoded``: ``static`` fields, and the items as a JSON list in the field ``items_at``.

    Without ``items_at`` it is one callback's: each entry of ``item`` is a field, texts as they are and anything else as
    JSON (``param_json: "@"`` is the whole payload in one field). Raises ``ValueError`` as ``ObjectEnvelope`` does.
    """

    kind: Final = "form"
    needs_json: Final = True
    measured: Final = True  # percent-encoding makes payloads longer

    def __init__(self, *, items_at: str | None, static: StaticFields, item: FieldMap | None) -> None:
        both = next((name for name in (items_at, *(item or ())) if name in static), None)
        if both is not None and (items_at == both or not items_at):
            raise ValueError(f"{both} is in static and would be sent twice")
        self._static = b"&".join(_pair(name, _form_text(value)) for name, value in static.items())
        self.max_items = None if items_at else 1
        self._item: ItemMapping | None = None
        self._fields: list[tuple[str, ItemMapping]] = []
        if items_at:
            self._item = ItemMapping(item) if item else None
            self._before = b"&".join(part for part in (self._static, _quoted(items_at) + b"=") if part)
            self.item_bytes = 3  # "[" is %5B in the frame, "," or "]" after each item %2C or %5D
            self.frame_bytes = len(self._before) + 3
            return
        if not item:
            raise ValueError("envelope form needs items_at, the field for the list of callbacks, or item, a mapping")
        self._fields = [(name, ItemMapping(value)) for name, value in item.items()]
        self._before = self._static + b"&" if static else b""
        self.item_bytes = 0
        self.frame_bytes = len(self._before)

    def size(self, payload: bytes, key: str | None, event: str | None) -> int:
        """Return the length of the encoded item."""
        return len(self._encoded(payload))

    def build(self, items: Sequence[Item]) -> tuple[bytes, str]:
        """Return the encoded fields."""
        if self.max_items == 1:
            return self._before + each([only(items, self.kind)], self._made)[0], _FORM
        return b"%b%%5B%b%%5D" % (self._before, b"%2C".join(each(items, self._made))), _FORM

    def _made(self, item: Item) -> bytes:
        if self.max_items is None and self._item is None:
            spliced(item)
        return self._encoded(item.payload)

    def _encoded(self, payload: bytes) -> bytes:
        if self.max_items is None:
            return _quoted(payload if self._item is None else self._item(payload))
        return b"&".join(_pair(name, as_text(field(payload))) for name, field in self._fields)


def _around(static: StaticFields, path: Sequence[str]) -> tuple[bytes, bytes]:
    """Return the JSON before and after the list that goes to ``path`` of ``static``."""
    body: JsonObject = copy.deepcopy(dict(static))
    place = body
    for name in path[:-1]:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise ValueError(f"items_at {'.'.join(path)} leads into {name}, which static gives another value")
    if not all(path) or path[-1] in place:
        raise ValueError(f"items_at {'.'.join(path)} is no free place: a name is empty or stands in static")
    place[path[-1]] = _PLACE
    before, found, after = json_bytes(body).partition(json_bytes(_PLACE))
    if not found or json_bytes(_PLACE) in after:
        raise ValueError("static holds a text with a NUL in it")
    return before, after


def _quoted(text: str | bytes) -> bytes:
    try:
        return quote_plus(text).encode("ascii")
    except UnicodeEncodeError:  # half a surrogate pair
        raise Unfit("a field is not valid Unicode") from None


def _pair(name: str, text: str) -> bytes:
    return _quoted(name) + b"=" + _quoted(text)


def _form_text(value: Any) -> str:
    return value if isinstance(value, str) else json_bytes(value).decode()
