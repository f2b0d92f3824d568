"""Puts the payloads of a batch into one request body, byte for byte as they were accepted.

Payloads are spliced, never parsed and written again: a signature over them stays valid and a batch of 500 costs two
joins. The one change ever made is in NDJSON, where a raw CR or LF inside a payload (whitespace between JSON tokens,
for inside a string JSON allows neither) becomes a space, because there it would end the line.

Envelopes that build a form of their own around or out of the payloads are in ``composed`` and ``cloudevents``.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from relay.core.errors import Unbuildable, Unfit
from relay.core.model import Item
from relay.wire.payload.extract import InvalidJson, check_json
from relay.wire.payload.fields import problem_of

JSON: Final = "application/json"
_NDJSON: Final = "application/x-ndjson"
_LINE_ENDS_TO_SPACES: Final = bytes.maketrans(b"\r\n", b"  ")


class Envelope(Protocol):
    """The form of a platform's request body, and what it costs beside the payloads.

    ``frame_bytes + sum(size(payload) + item_bytes)`` is the length of the body, exactly, so that a claim can keep
    within ``batch.max_bytes`` without building it. ``size`` is asked once, when a callback is accepted, and kept with
    it. What was accepted under another envelope, before a reload, was measured by that one: such a body can come out
    longer than the claim took it for, and whoever builds it compares.
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

    @property
    def measured(self) -> bool:
        """Whether ``size`` must be asked; if not it is the payload's length, and any JSON fits."""
        ...

    def size(self, payload: bytes, key: str | None, event: str | None) -> int:
        """Return the bytes a callback takes in the body. Raises ``InvalidJson``, ``Unfit`` when it cannot be there."""
        ...

    def build(self, items: Sequence[Item]) -> tuple[bytes, str]:
        """Return the body of ``items`` (at least one) and its content type.

        Raises ``Unbuildable`` naming every item that cannot be in it.
        """
        ...


def each(items: Sequence[Item], make: Callable[[Item], bytes]) -> list[bytes]:
    """Return what ``make`` gives for each item. Raises ``Unbuildable`` with all that it refused."""
    made: list[bytes] = []
    refused: dict[int, str] = {}
    for item in items:
        try:
            made.append(make(item))
        except (InvalidJson, Unfit) as error:
            refused[item.seq] = problem_of(error)
    if refused:
        raise Unbuildable(refused)
    return made


def spliced(item: Item) -> bytes:
    """Return an item's payload as it goes into a JSON body; raises ``InvalidJson``.

    It was checked when it was accepted, but perhaps under an envelope that takes anything: then ``1,2`` between two
    payloads of an array would become two items nobody posted.
    """
    check_json(item.payload)
    return item.payload


def all_spliced(items: Sequence[Item]) -> list[bytes]:
    """Return what ``spliced`` gives for each item, as fast as may be: this runs for every callback sent."""
    payloads = [item.payload for item in items]
    try:
        for payload in payloads:
            check_json(payload)
    except InvalidJson:
        return each(items, spliced)
    return payloads


class ArrayEnvelope:
    """A JSON array of the payloads."""

    kind: Final = "array"
    frame_bytes: Final = 1  # "[" here and "," or "]" after each item: exact for any n >= 1
    item_bytes: Final = 1
    max_items: Final = None
    needs_json: Final = True
    measured: Final = False

    def size(self, payload: bytes, key: str | None, event: str | None) -> int:
        """Return the payload's length."""
        return len(payload)

    def build(self, items: Sequence[Item]) -> tuple[bytes, str]:
        """Return ``[payload,payload,...]``."""
        return b"[%b]" % b",".join(all_spliced(items)), JSON


class NdjsonEnvelope:
    """One payload per line, each line ended by a line feed (https://github.com/ndjson/ndjson-spec)."""

    kind: Final = "ndjson"
    frame_bytes: Final = 0
    item_bytes: Final = 1
    max_items: Final = None
    needs_json: Final = True
    measured: Final = False

    def size(self, payload: bytes, key: str | None, event: str | None) -> int:
        """Return the payload's length."""
        return len(payload)

    def build(self, items: Sequence[Item]) -> tuple[bytes, str]:
        """Return the lines; a raw CR or LF inside a payload becomes a space."""
        payloads = all_spliced(items)
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
    measured: Final = False

    def size(self, payload: bytes, key: str | None, event: str | None) -> int:
        """Return the payload's length."""
        return len(payload)

    def build(self, items: Sequence[Item]) -> tuple[bytes, str]:
        """Return the payload of the only item. Raises ``ValueError`` for any other number of items."""
        item = only(items, self.kind)
        return item.payload, item.content_type or JSON


def only(items: Sequence[Item], kind: str) -> Item:
    """Return the only item. Raises ``ValueError`` for any other number of items."""
    if len(items) != 1:
        raise ValueError(f"envelope {kind} holds exactly one callback, not {len(items)}")
    return items[0]
