"""Takes a field out of a JSON payload, and says whether a payload is JSON at all.

The hot path is one msgspec pass over the payload: it validates everything and decodes just the field wanted. What
msgspec skips it does not check for UTF-8, and depth it bounds by the interpreter's recursion limit; both are dealt
with here (measured: 0.6 us for 400 bytes, and 1.2 us more where the payload is not pure ASCII).
"""

import json
import re
from typing import Any, Final

import jmespath
import jmespath.exceptions
import msgspec
from jmespath.visitor import TreeInterpreter

from relay.core.errors import RelayError, Unfit

_POSITION: Final = re.compile(r" ?\(byte (\d+)\)")
_EXACT_INT: Final = 2**53
_MAX_DIGITS: Final = 640  # the interpreter's own limit cannot be set below this
# Nodes of an expression visited in one search: less than 0.1 s of pure Python. A filter over 10,000 items takes 40,000;
# 1 MiB of empty objects would take 1,400,000.
_MAX_STEPS: Final = 100_000


class InvalidJson(RelayError):
    """The payload is not JSON (RFC 8259); ``position`` is the byte where that shows."""

    def __init__(self, problem: str, position: int) -> None:
        super().__init__(f"not valid JSON at byte {position}: {problem}")
        self.problem = problem
        self.position = position


# An escaped surrogate is half a character. RFC 8259 section 8.2 leaves halves without their other half to the receiver;
# JavaScript writes one where it cuts a text. msgspec refuses them.
_ESCAPED_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPES: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_BOM: Final = b"\xef\xbb\xbf"

_CHECKER: Final = msgspec.json.Decoder(msgspec.Raw)
_TREE: Final = msgspec.json.Decoder(float_hook=float)  # float() knows no range error: 1e999 is JSON
_ENCODER: Final = msgspec.json.Encoder(order="sorted")


def _check_utf8(payload: bytes) -> None:
    try:
        payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidJson("not UTF-8", error.start) from None


def _invalid(payload: bytes, error: msgspec.DecodeError | RecursionError) -> InvalidJson:
    if isinstance(error, RecursionError):
        return InvalidJson("nested too deeply", 0)
    if payload.startswith(_BOM):
        return InvalidJson("a byte order mark stands before it", 0)
    text = str(error)
    found = _POSITION.search(text)
    if found is None:  # msgspec names no byte where the input ended too early
        return InvalidJson("it is empty" if not payload.strip() else "it ends too early", len(payload))
    problem = _POSITION.sub("", text).removeprefix("JSON is malformed: ")
    # For this one msgspec names the byte behind the fault.
    return InvalidJson(problem, int(found[1]) - (problem == "trailing characters"))


def readable(payload: bytes) -> bytes:
    """Return a JSON text of the same length to read values from: halves of characters, escaped, become U+FFFD.

    It is ``payload`` itself where there are none. What is sent is always the payload as it came.
    """
    if _ESCAPED_HALF.search(payload) is None:
        return payload
    twin = _ESCAPES.sub(lambda found: found[0] if found[1] is None else b"\\ufffd", payload)
    return payload if twin == payload else twin


def as_written(part: bytes, twin: bytes, payload: bytes) -> bytes:
    """Return the bytes of ``payload`` that ``part`` of its ``readable`` twin stands for; a part of neither as it is.

    Raises ``InvalidJson`` for a part that stands there twice and was written in different ways.
    """
    if twin is payload:
        return part
    found: set[bytes] = set()
    at = twin.find(part)
    while at >= 0:
        found.add(payload[at : at + len(part)])
        at = twin.find(part, at + len(part))
    if len(found) > 1:
        raise InvalidJson("halves of characters in it cannot be told apart", 0)
    return found.pop() if found else part


def _checked(payload: bytes) -> bytes:
    """Return what to read values from (``readable``). Raises ``InvalidJson``."""
    if not payload.isascii():
        _check_utf8(payload)
    try:
        _CHECKER.decode(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        twin = readable(payload)
        if twin is payload:
            raise _invalid(payload, error) from None
        return _checked(twin)
    return payload


def check_json(payload: bytes) -> None:
    """Raise ``InvalidJson`` unless ``payload`` is one JSON value in UTF-8, nested less than the interpreter's limit."""
    _checked(payload)


def parse_json(payload: bytes) -> Any:
    """Return the value ``payload`` holds. Raises ``InvalidJson``; floats out of range become infinite."""
    payload = _checked(payload)
    try:
        return _TREE.decode(payload)
    except msgspec.ValidationError:  # an integer of more digits than msgspec takes
        return _parse_slowly(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _invalid(payload, error) from None


def _parse_slowly(payload: bytes) -> Any:
    try:
        return json.loads(payload, parse_int=_integer)
    except RecursionError as error:
        raise _invalid(payload, error) from None


def _integer(digits: str) -> int | str:
    """Return an integer, or its text where the interpreter refuses to convert so many digits (CVE-2020-10735)."""
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


class BoundedSearch(TreeInterpreter):  # type: ignore[misc]  # jmespath has no types
    """A search, or several that share one bound: it ends with ``Unfit`` after ``_MAX_STEPS``."""

    def __init__(self) -> None:
        self.__dict__.update(_PREPARED)  # what the base class would make anew for each search
        self._left = _MAX_STEPS

    def visit(self, node: Any, value: Any) -> Any:
        """Visit one node of the expression; everything below it comes through here as well."""
        self._left -= 1
        if self._left < 0:
            raise Unfit(f"looking for a field takes more than {_MAX_STEPS} steps")
        return _VISITS[node["type"]](self, node, value)

    def find(self, parsed: Any, tree: Any) -> Any:
        """Return what a parsed JMESPath finds in decoded JSON.

        Raises ``Unfit`` for what is too much to search, ``JMESPathError`` where a function meets a value it does not
        take, and ``RecursionError`` for what is nested too deeply.
        """
        try:
            return self.visit(parsed, tree)
        except OverflowError as error:  # 1e999 is JSON, and no integer is its ceiling
            raise jmespath.exceptions.JMESPathError(str(error)) from error


_PREPARED: Final = vars(TreeInterpreter())
_VISITS: Final = {
    name.removeprefix("visit_"): visit for name, visit in vars(TreeInterpreter).items() if name.startswith("visit_")
}


def search(parsed: Any, tree: Any) -> Any:
    """Return what a parsed JMESPath finds in decoded JSON, in bounded time; raises as ``BoundedSearch.find`` does."""
    return BoundedSearch().find(parsed, tree)


class TreePath:
    """A compiled JMESPath (https://jmespath.org) that reads one text out of decoded payloads, as ``KeyPath`` does.

    For several paths into one payload, which is then decoded once (``parse_json``). Raises ``ValueError`` for an
    expression that does not compile.
    """

    __slots__ = ("_parsed", "expression", "field")

    def __init__(self, expression: str) -> None:
        try:
            compiled = jmespath.compile(expression)
        except jmespath.exceptions.JMESPathError as error:
            raise ValueError(f"JMESPath {expression!r} does not compile: {error}") from error
        self.expression = expression
        self._parsed = compiled.parsed
        # The name where the whole expression is one, which needs no interpreter.
        self.field: str | None = compiled.parsed["value"] if compiled.parsed["type"] == "field" else None

    def __call__(self, tree: Any) -> str | None:
        """Return the text at the path, or None.

        Raises ``InvalidJson`` for what is nested too deeply to be searched, ``Unfit`` for what is too much to search.
        """
        try:
            if self.field is not None:
                return text_of(tree.get(self.field)) if isinstance(tree, dict) else None
            return text_of(search(self._parsed, tree))
        except jmespath.exceptions.JMESPathError:
            # A function met a type it does not take: this payload has no such field.
            return None
        except RecursionError:
            raise InvalidJson("nested too deeply", 0) from None


class KeyPath:
    """A compiled JMESPath (https://jmespath.org) that reads one text out of payloads.

    Strings are given as they are, numbers, true and false as their text, objects and arrays as compact JSON with
    sorted names (so that equal values are equal keys); null, an absent field and an expression that does not fit the
    payload's types give None. Raises ``ValueError`` for an expression that does not compile.
    """

    __slots__ = ("_field", "_path", "expression")

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self._path = TreePath(expression)
        self._field: msgspec.json.Decoder[Any] | None = None
        if self._path.field is not None:
            value = msgspec.field(name=self._path.field, default=None)
            one_field = msgspec.defstruct("OneField", [("value", str | int | None, value)], gc=False)
            self._field = msgspec.json.Decoder(one_field)

    def __call__(self, payload: bytes) -> str | None:
        """Return the text at the path, or None.

        Raises ``InvalidJson`` wherever in the payload the fault lies, ``Unfit`` as ``TreePath`` does.
        """
        field = self._field
        if field is None:
            return self._general(payload)
        if not payload.isascii():
            _check_utf8(payload)
        try:
            value = field.decode(payload).value
        except msgspec.ValidationError:  # no object, or the field is neither a string nor an integer
            return self._general(payload)
        except (msgspec.DecodeError, RecursionError) as error:
            twin = readable(payload)
            if twin is payload:
                raise _invalid(payload, error) from None
            return self(twin)
        if value is None or type(value) is str:
            return value
        return str(value)

    @property
    def searches(self) -> bool:
        """Whether finding the text takes pure Python, and so long that a large payload holds up the event loop."""
        return self._field is None

    def _general(self, payload: bytes) -> str | None:
        return self._path(parse_json(payload))


def text_of(value: Any) -> str | None:
    """Return a decoded JSON value as the text of a key."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_INT:
        return str(int(value))  # 12.0 and 12 are the same number, and so the same key
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return _ENCODER.encode(value).decode()
