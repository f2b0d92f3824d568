"""Puts the payloads of a batch into one request body, byte for byte as they were accepted.

Payloads are spliced, never parsed and written again: a signature over them stays valid and a batch of 500 costs two
joins. The one change ever made is in NDJSON, where a raw CR or LF inside a payload (whitespace between JSON tokens,
for inside a string JSON allows neither) becomes a space, because there it would end the line.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from relay.core.model import Item

_JSON: Final = "application/json"
_NDJSON: Final = "application/x-ndjson"
_LINE_ENDS_TO_SPACES: Final = bytes.maketrans(b"\r\n", b"  ")


class Envelope(Protocol):
    """The form of a platform's request body, and what it costs beside the payloads.

    ``frame_bytes + sum(len(payload) + item_bytes)`` is the length of the body, exactly, so that a claim can keep
    within ``batch.max_bytes`` without building it.
    """

    @property
    def kind(self) -> str:
        """The name in the configuration."""
        ...

    @property
    def frame_bytes(self) -> int:
        """Bytes the body has whatever its items."""
        ...

    @property
    def item_bytes(self) -> int:
        """Bytes added per item."""
        ...

    @property
    def max_items(self) -> int | None:
        """The most items one body can hold; None when the form sets no bound."""
        ...

    @property
    def needs_json(self) -> bool:
        """Whether a payload that is not JSON would break the body."""
        ...

    def build(self, items: Sequence[Item]) -> tuple[bytes, str]:
        """Return the body of ``items`` (at least one) and its content type."""
        ...


class ArrayEnvelope:
    """A JSON array of the payloads."""

    kind: Final = "array"
    frame_bytes: Final = 1  # "[" here and "," or "]" after each item: exact for any n >= 1
    item_bytes: Final = 1
    max_items: Final = None
    needs_json: Final = True

    def build(self, items: Sequence[Item]) -> tuple[bytes, str]:
        """Return ``[payload,payload,...]``."""
        return b"[%b]" % b",".join([item.payload for item in items]), _JSON


class NdjsonEnvelope:
    """One payload per line, each line ended by a line feed (https://github.com/ndjson/ndjson-spec)."""

    kind: Final = "ndjson"
    frame_bytes: Final = 0
    item_bytes: Final = 1
    max_items: Final = None
    needs_json: Final = True

    def build(self, items: Sequence[Item]) -> tuple[bytes, str]:
        """Return the lines; a raw CR or LF inside a payload becomes a space."""
        payloads = [item.payload for item in items]
        body = b"%b\n" % b"\n".join(payloads)
        # Two scans in C over the joined body tell that no payload holds a line end, which is nearly always.
        if b"\r" in body or body.count(b"\n") != len(payloads):
            body = b"%b\n" % b"\n".join([payload.translate(_LINE_ENDS_TO_SPACES) for payload in payloads])
        return body, _NDJSON


class SingleEnvelope:
    """The payload itself, with the content type it was posted with."""

    kind: Final = "single"
    frame_bytes: Final = 0
    item_bytes: Final = 0
    max_items: Final = 1
    needs_json: Final = False

    def build(self, items: Sequence[Item]) -> tuple[bytes, str]:
        """Return the payload of the only item. Raises ``ValueError`` for any other number of items."""
        if len(items) != 1:
            raise ValueError(f"envelope single holds exactly one callback, not {len(items)}")
        item = items[0]
        return item.payload, item.content_type or _JSON


_ENVELOPES: Final[dict[str, Envelope]] = {
    envelope.kind: envelope for envelope in (ArrayEnvelope(), NdjsonEnvelope(), SingleEnvelope())
}


def envelope_for(kind: str) -> Envelope:
    """Return the envelope called ``kind``. Raises ``ValueError`` naming those there are."""
    envelope = _ENVELOPES.get(kind)
    if envelope is None:
        raise ValueError(f"envelope {kind!r} does not exist; use one of {', '.join(_ENVELOPES)}")
    return envelope
