"""A JMESPath into an answer's JSON (https://jmespath.org), compiled once. ``Reading`` looks for it."""

from typing import Any

import jmespath
import jmespath.exceptions


class JsonPath:
    """A compiled path, such as ``error.code``. Two of the same text are equal.

    Raises ``ValueError`` for a text that does not compile. Paths into payloads are ``KeyPath`` (``payload.extract``).
    """

    __slots__ = ("expression", "parsed")

    def __init__(self, expression: str) -> None:
        try:
            self.parsed: Any = jmespath.compile(expression).parsed
        except jmespath.exceptions.JMESPathError as error:
            raise ValueError(f"JMESPath {expression!r} does not compile: {error}") from error
        self.expression = expression

    def __eq__(self, other: object) -> bool:
        return self.expression == other.expression if isinstance(other, JsonPath) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.expression)

    def __str__(self) -> str:
        return self.expression

    def __repr__(self) -> str:
        return f"JsonPath({self.expression!r})"
