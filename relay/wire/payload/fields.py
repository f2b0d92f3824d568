"""Takes several fields out of a JSON payload at once, each as the JSON text that stands there.

A path that is a chain of names (``order.id``) gives the payload's own bytes, so that ``1.10`` stays ``1.10``; any other
JMESPath gives its result written anew. A mapping (``ItemMapping``) puts such fields into an object of another shape.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import jmespath
import jmespath.exceptions
import msgspec

from relay.core.errors import Unfit
from relay.wire.payload.extract import InvalidJson, as_written, check_json, parse_json, readable, search

_MISSING: Final = msgspec.Raw(b"")
_NOTHING: Final = (b"", b"null")


FieldTree = str | int | float | bool | None | Sequence["FieldTree"] | Mapping[str, "FieldTree"]
"""A JMESPath, a constant, or a list or mapping of such: ``["order.id", 7]``."""

FieldMap = Mapping[str, FieldTree]
"""How an object is built from a payload: ``{"id": "order.id", "buyer": {"name": "buyer.nick"}}``."""


class Fields:
    """Compiled JMESPaths (https://jmespath.org); raises ``ValueError`` for one that does not compile."""

    __slots__ = ("_chains", "_expressions", "_searches", "_top")

    def __init__(self, expressions: Sequence[str]) -> None:
        self._expressions = tuple(expressions)
        names: dict[str, int] = {}  # first names of chains -> field of the struct that reads them in one pass
        self._chains: list[tuple[int, int, tuple[msgspec.json.Decoder[Any], ...]]] = []
        self._searches: list[tuple[int, Any]] = []
        for place, expression in enumerate(expressions):
            try:
                compiled = jmespath.compile(expression)
            except jmespath.exceptions.JMESPathError as error:
                raise ValueError(f"JMESPath {expression!r} does not compile: {error}") from error
            chain = _chain(compiled.parsed)
            if chain is None:
                self._searches.append((place, compiled.parsed))
            else:
                first = names.setdefault(chain[0], len(names)) if chain else -1
                self._chains.append((place, first, tuple(_one_field(name) for name in chain[1:])))
        self._top = _decoder(list(names)) if names else None

    def __call__(self, payload: bytes) -> list[bytes]:
        """Return the JSON text at each path. Raises ``InvalidJson``, and ``Unfit`` where one finds nothing or null."""
        check_json(payload)
        try:
            return self._found(payload)
        except msgspec.DecodeError:  # halves of characters
            twin = readable(payload)
            return [as_written(text, twin, payload) if b"\\" in text else text for text in self._found(twin)]

    def _found(self, payload: bytes) -> list[bytes]:
        found: list[bytes] = [b""] * len(self._expressions)
        top: tuple[msgspec.Raw, ...] = ()
        if self._top is not None:
            top = _read(self._top, payload) or ()
        for place, first, rest in self._chains:
            found[place] = payload if first < 0 else _follow(top[first], rest) if top else b""
        if self._searches:
            tree = parse_json(payload)
            for place, parsed in self._searches:
                found[place] = _written(parsed, tree, self._expressions[place])
        for place, text in enumerate(found):
            if text in _NOTHING:
                raise Unfit(f"{self._expressions[place]} is missing")
        return found


def _chain(parsed: Any) -> tuple[str, ...] | None:
    """Return the names of a parsed ``a.b.c``, none for ``@``; None for an expression of any other form.

    Names that msgspec cannot look for (a quote or backslash in them) are left to the general way as well.
    """
    if parsed["type"] == "current":
        return ()
    if parsed["type"] == "field":
        name = str(parsed["value"])
        return (name,) if name.isprintable() and not set(name) & {'"', "\\"} else None
    if parsed["type"] != "subexpression":
        return None
    names: tuple[str, ...] = ()
    for child in parsed["children"]:
        part = _chain(child)
        if not part:
            return None
        names += part
    return names


def _decoder(names: Sequence[str]) -> "msgspec.json.Decoder[Any]":
    fields = [
        (f"f{number}", msgspec.Raw, msgspec.field(name=name, default=_MISSING)) for number, name in enumerate(names)
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Chosen", fields, gc=False))


def _one_field(name: str) -> "msgspec.json.Decoder[Any]":
    return _decoder([name])


def _read(decoder: "msgspec.json.Decoder[Any]", text: bytes | msgspec.Raw) -> tuple[msgspec.Raw, ...] | None:
    """Return the fields of an object; None when ``text`` is none."""
    try:
        return msgspec.structs.astuple(decoder.decode(text))
    except msgspec.ValidationError:
        return None


def _follow(raw: msgspec.Raw, rest: Sequence["msgspec.json.Decoder[Any]"]) -> bytes:
    for decoder in rest:
        read = _read(decoder, raw) if bytes(raw) else None
        if read is None:
            return b""
        raw = read[0]
    return bytes(raw)


def _written(parsed: Any, tree: Any, expression: str) -> bytes:
    try:
        value = search(parsed, tree)
    except jmespath.exceptions.JMESPathError:
        return b""  # a function met a type it does not take: nothing stands there
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        # 1e999 is JSON but no number here; half a surrogate pair cannot be written
        raise Unfit(f"{expression} cannot be written as JSON") from None


def as_text(value: bytes) -> str:
    """Return a field's JSON text as plain text: a string without its quotes, all else as it stands."""
    return str(msgspec.json.decode(readable(value))) if value.lstrip().startswith(b'"') else value.decode()


class ItemMapping:
    """An object built from fields of the payload.

    ``mapping`` gives names and JMESPaths; nested mappings and lists give nested objects and arrays, numbers, true and
    false stand for themselves, and so does a JMESPath literal (`` 'shipped' ``). Raises ``ValueError`` for a path that
    does not compile.
    """

    __slots__ = ("_fields", "_pieces")

    def __init__(self, mapping: FieldTree) -> None:
        expressions: list[str] = []
        text = _skeleton(mapping, expressions)
        self._pieces = text.split(_HOLE)
        self._fields = Fields(expressions)

    def __call__(self, payload: bytes) -> bytes:
        """Return the object. Raises ``InvalidJson``, and ``Unfit`` where a field is missing."""
        parts = [self._pieces[0]]
        for value, piece in zip(self._fields(payload), self._pieces[1:], strict=True):
            parts += (value, piece)
        return b"".join(parts)


# JSON escapes control characters, so that no name or constant can hold this one.
_HOLE: Final = b"\0"


def _skeleton(value: FieldTree, expressions: list[str]) -> bytes:
    """Return the JSON around the fields, a hole for each, and collect their expressions in order."""
    if isinstance(value, str):
        expressions.append(value)
        return _HOLE
    if isinstance(value, Mapping):
        members = (json_bytes(str(name)) + b":" + _skeleton(child, expressions) for name, child in value.items())
        return b"{%b}" % b",".join(members)
    if isinstance(value, list | tuple):
        return b"[%b]" % b",".join(_skeleton(child, expressions) for child in value)
    return json_bytes(value)


def json_bytes(value: Any) -> bytes:
    """Return a value of the configuration as compact JSON in UTF-8. Raises ``ValueError`` for what JSON cannot hold."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def problem_of(error: InvalidJson | Unfit) -> str:
    """Return what stops a payload, without anything of the payload."""
    return "not valid JSON" if isinstance(error, InvalidJson) else str(error)
