"""CloudEvents 1.0 in JSON (https://github.com/cloudevents/spec, v1.0.2): batched mode, and structured mode for one.

``id`` is the callback's id, so that ``source`` and ``id`` together stay the same over every re-send; ``type`` is its
event, ``subject`` its ordering key, ``time`` when it was accepted. ``data`` is the payload, spliced.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal

import msgspec

from relay.core.model import Item
from relay.wire.envelopes.plain import each, only, spliced
from relay.wire.payload.fields import json_bytes

_BATCHED: Final = "application/cloudevents-batch+json"
_STRUCTURED: Final = "application/cloudevents+json"
_text: Final = msgspec.json.Encoder().encode
_ID_CHARS: Final = 15
_TIME: Final = "2026-11-22T10:02:11.123Z"


class CloudEventsEnvelope:
    """An event per callback. ``event_type`` is the type of callbacks that were posted without an event."""

    kind: Final = "cloudevents"
    needs_json: Final = True
    measured: Final = True  # key and event are in the body too

    def __init__(self, *, source: str, event_type: str, mode: Literal["batched", "structured"]) -> None:
        self._batched = mode == "batched"
        self._type = event_type
        self._head = b'{"specversion":"1.0","source":%b,"datacontenttype":"application/json","id":"' % json_bytes(
            source
        )
        fixed = self._event("0" * _ID_CHARS, "", None, _TIME, b"")
        self.max_items = None if self._batched else 1
        self.frame_bytes = 1 if self._batched else 0
        self.item_bytes = len(fixed) - len(json_bytes("")) + self.frame_bytes

    def size(self, payload: bytes, key: str | None, event: str | None) -> int:
        """Return what payload, event and key take; ids are taken to have their full 15 characters."""
        subject = len(_subject(key))
        return len(payload) + len(_text(event or self._type)) + subject

    def build(self, items: Sequence[Item]) -> tuple[bytes, str]:
        """Return the array of events, or in structured mode the one."""
        if not self._batched:
            only(items, self.kind)
        events = each(items, self._made)
        return (b"[%b]" % b",".join(events), _BATCHED) if self._batched else (events[0], _STRUCTURED)

    def _made(self, item: Item) -> bytes:
        return self._event(item.id, item.event or self._type, item.key, _instant(item.accepted_at), spliced(item))

    def _event(self, event_id: str, event_type: str, key: str | None, time: str, data: bytes) -> bytes:
        return b'%b%b","time":"%b"%b,"type":%b,"data":%b}' % (
            self._head,
            event_id.encode("ascii"),
            time.encode("ascii"),
            _subject(key),
            _text(event_type),
            data,
        )


def _subject(key: str | None) -> bytes:
    """Return the attribute; it may be left out but not be empty (section 3.1)."""
    return b',"subject":%b' % _text(key) if key else b""


def _instant(at: float) -> str:
    millis = round(at * 1000)
    return f"{_second(millis // 1000)}.{millis % 1000:03d}Z"


@lru_cache(maxsize=64)
def _second(at: int) -> str:
    """Return a whole second; those of a batch lie close together."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")
