"""What every source yields: the values of a row as they stand there, with the row's place."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jmespath
import jmespath.exceptions

Record = tuple[int, Sequence[Any], str]
"""The row's number, the values of the wanted columns in their order, and why it cannot be read (else empty)."""


class SideUnread(Exception):
    """A side could not be read whole; ``place`` says where that was noticed."""

    def __init__(self, place: str, text: str) -> None:
        super().__init__(text)
        self.place = place
        self.text = text


class SourceRows(Protocol):
    """An opened source."""

    name: str
    """What it is called in places."""

    def __iter__(self) -> Iterator[Record]:
        """Yield its rows. Raises ``SideUnread`` where it ends before its end."""
        ...

    def place(self, number: int) -> str:
        """Return the place of the row that was yielded last, whose number is ``number``."""
        ...


def value_at(path: str) -> Callable[[Any], Any]:
    """Return what finds a JMESPath in a decoded JSON value; None where it does not fit."""
    if path.isidentifier():
        return lambda value: value.get(path) if isinstance(value, dict) else None
    search = jmespath.compile(path).search

    def find(value: Any) -> Any:
        try:
            return search(value)
        except jmespath.exceptions.JMESPathError:
            return None

    return find


def text_of(value: Any) -> str:
    """Return a value as the text that is compared; nothing is an empty text."""
    if isinstance(value, str):
        return value.strip()
    if type(value) is int:
        return str(value)
    return "" if value is None else json.dumps(value, ensure_ascii=False)
