"""URLs and methods that use fields of the callback: ``https://x/orders/{order_id}/ship``.

What stands in braces is a JMESPath into the payload, or one of the callback's own facts: ``{key}``, ``{event}`` and
``{id}`` (a payload field of such a name is written in quotes: ``{"id"}``). Values are percent-encoded whole (RFC 3986
section 2.1), so that none can begin another path segment or query parameter.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from relay.core.errors import Unfit
from relay.core.model import Item
from relay.wire.payload.extract import KeyPath

OWN: Final = ("key", "event", "id")
METHODS: Final = ("POST", "PUT", "PATCH")
_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_AUTHORITY: Final = re.compile(r"[a-z]+://[^/?#]*", re.IGNORECASE)


class TemplateFields(NamedTuple):
    """What a template may use of a callback."""

    payload: bytes
    key: str | None
    event: str | None
    id: str


def facts_of(item: Item) -> TemplateFields:
    """Return an item's facts."""
    return TemplateFields(item.payload, item.key, item.event, item.id)


Reader = Callable[[TemplateFields], str | None]


def read_fact(expression: str) -> Reader:
    """Compile what stands in braces. Raises ``ValueError`` for a JMESPath that does not compile."""
    if expression in OWN:
        place = TemplateFields._fields.index(expression)
        return lambda facts: facts[place]  # type: ignore[return-value]
    path = KeyPath(expression)
    return lambda facts: path(facts.payload)


class FieldTemplate:
    """A text with fields of the callback in it. Raises ``ValueError`` for braces without a JMESPath between them."""

    __slots__ = ("_names", "_pieces", "_readers")

    def __init__(self, text: str) -> None:
        parts = _BRACES.split(text)
        self._pieces: Sequence[str] = parts[::2]
        self._names: Sequence[str] = [name.strip() for name in parts[1::2]]
        if any("{" in piece or "}" in piece for piece in self._pieces):
            raise ValueError("a brace has no partner; a brace meant literally is %7B or %7D")
        if not all(self._names):
            raise ValueError("nothing stands between the braces; write a field, such as {order_id}")
        self._readers = [read_fact(name) for name in self._names]

    @property
    def has_fields(self) -> bool:
        """Whether the text depends on the callback."""
        return bool(self._names)

    def fill(self, facts: TemplateFields, encode: Callable[[str], str]) -> str:
        """Return the text with each field as ``encode`` gives it.

        Raises ``Unfit`` naming the field that is missing or empty, ``InvalidJson`` for a payload that cannot be read.
        """
        parts = [self._pieces[0]]
        for name, reader, piece in zip(self._names, self._readers, self._pieces[1:], strict=True):
            value = reader(facts)
            if not value:
                raise Unfit(f"{{{name}}} is missing")
            parts += (encode(value), piece)
        return "".join(parts)


class Target:
    """Where a request goes and how: a platform's ``method`` and ``url``, with or without fields of the callback."""

    __slots__ = ("_fixed", "_method", "_url")

    def __init__(self, *, method: str, url: str) -> None:
        self._method = FieldTemplate(method)
        self._url = FieldTemplate(url)
        authority = _AUTHORITY.match(url)
        if authority is not None and "{" in authority[0]:
            raise ValueError("the host cannot depend on the callback; fields go into the path or query")
        self._fixed = None if self.has_fields else (method, url)

    @property
    def has_fields(self) -> bool:
        """Whether the target depends on the callback; then a request holds one."""
        return self._method.has_fields or self._url.has_fields

    def of(self, facts: TemplateFields) -> tuple[str, str]:
        """Return method and URL. Raises ``Unfit`` and ``InvalidJson`` as ``FieldTemplate.fill`` does."""
        if self._fixed is not None:
            return self._fixed
        method = self._method.fill(facts, str.upper)
        if self._method.has_fields and method not in METHODS:
            raise Unfit(f"the method is none of {', '.join(METHODS)}")
        return method, self._filled_url(facts)

    def _filled_url(self, facts: TemplateFields) -> str:
        url = self._url.fill(facts, _percent_encoded)
        path = url.partition("?")[0]
        if self._url.has_fields and any(segment in (".", "..") for segment in path.split("/")):
            raise Unfit("a field makes a path segment of dots, which would lead elsewhere")
        return url


def _percent_encoded(value: str) -> str:
    return quote(value, safe="")
