"""Texts with named places, such as ``{timestamp}.{body}``: compiled once, filled with bytes for each request."""

from collections.abc import Callable, Collection, Mapping
from string import Formatter


class Template:
    """A compiled text. ``{{`` and ``}}`` stand for braces.

    What is filled in is never looked at again, so a payload with braces changes nothing. Raises ``ValueError`` for a
    place that is not among ``names``.
    """

    __slots__ = ("_parts", "names", "text")

    def __init__(self, text: str, names: Collection[str]) -> None:
        self.text = text
        self._parts: list[tuple[bytes, str | None]] = []
        try:
            pieces = list(Formatter().parse(text))
        except ValueError:
            raise ValueError(
                f"{text!r} has a brace without its partner; write {{{{ or }}}} for a literal one"
            ) from None
        for literal, name, form, conversion in pieces:
            if name is not None and (name not in names or form or conversion):
                known = ", ".join(f"{{{known}}}" for known in names)
                raise ValueError(f"{{{name}}} is not known here; known are {known}")
            self._parts.append((literal.encode(), name))
        self.names = frozenset(name for _, name in self._parts if name is not None)

    def fill(self, values: Mapping[str, bytes]) -> bytes:
        """Return the text with ``values`` in their places."""
        return b"".join([literal if name is None else literal + values[name] for literal, name in self._parts])

    def fill_lazily(self, values: Mapping[str, Callable[[], bytes]]) -> bytes:
        """Return the text, asking only for the values it names."""
        return self.fill({name: values[name]() for name in self.names})
