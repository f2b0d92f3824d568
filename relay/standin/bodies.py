"""Request bodies as a platform reads them: taken apart into callbacks, each identified by its digest."""

import hashlib
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from relay.wire.payload.extract import InvalidJson, as_written, readable

Shape = Literal["auto", "array", "ndjson", "single"]
_RAW_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_RAW_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_JSON_SPACE = b" \t\r\n"


class MalformedBody(Exception):
    """The body is not what its shape says."""


def digest(payload: bytes) -> str:
    """Return the SHA-1 of a payload without the JSON whitespace around it: envelopes may drop that."""
    return hashlib.sha1(payload.strip(_JSON_SPACE), usedforsecurity=False).hexdigest()


def split_items(body: bytes, *, content_type: str, shape: Shape = "auto", items_at: str = "") -> list[bytes]:
    """Take a decoded body apart into payloads, byte for byte as they stand in it.

    ``auto`` goes by the content type, then by the first byte. ``items_at`` is the dotted path of the list inside an
    object. Raises ``MalformedBody``.
    """
    try:
        for name in items_at.split(".") if items_at else ():
            twin = readable(body)
            body = as_written(bytes(_RAW_FIELDS.decode(twin)[name]), twin, body)
        if shape == "auto":
            shape = _guess(body, content_type)
        if shape == "array":
            return _items(body)
    except (msgspec.DecodeError, KeyError, InvalidJson) as error:
        raise MalformedBody(f"not a body of this shape: {error}") from error
    if shape == "ndjson":
        return [line for line in body.split(b"\n") if line.strip(_JSON_SPACE)]
    return [body] if body else []


def _items(body: bytes) -> list[bytes]:
    """Return the items of an array byte for byte, half characters included (``readable`` says what these are)."""
    twin = readable(body)
    items = []
    at = 0
    for raw in map(bytes, _RAW_ITEMS.decode(twin)):
        at = twin.index(raw, at)
        items.append(body[at : at + len(raw)])
        at += len(raw)
    return items


def _guess(body: bytes, content_type: str) -> Shape:
    if "ndjson" in content_type:
        return "ndjson"
    return "array" if body.lstrip(_JSON_SPACE).startswith(b"[") else "single"


def field_reader(name: str) -> Callable[[bytes], Any]:
    """Return a function that reads the top-level field ``name`` of a payload; it returns None if there is none."""
    shape = msgspec.defstruct("Field", [("value", Any, None)], rename={"value": name})
    decoder = msgspec.json.Decoder(shape)

    def read(payload: bytes) -> Any:
        try:
            return decoder.decode(readable(payload)).value  # type: ignore[attr-defined]
        except msgspec.DecodeError:
            return None

    return read
