"""A platform's ``classify`` rules, asked for every answer. ``config`` compiles them and has checked them.

All conditions of a rule must hold. ``{status: 2xx, path: errcode, in: [0], as: ok}`` in the file is here
``Rule(Outcome.OK, statuses={200..299}, subject=AtPath(errcode), wanted={"0": "0"})``. It holds for a 200 with the body
``{"errcode": 0}``, and its reason is ``errcode=0``.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

from relay.core.model import Outcome
from relay.wire.answers.json_path import JsonPath
from relay.wire.answers.reading import Reading
from relay.wire.answers.rule_wait import Wait
from relay.wire.regex import Pattern

Scope = Literal["group", "platform"]
Scalar = str | int | float | bool | None

_LABEL_CHARS: Final = 80
# What platforms use as a code: a number too short for a telephone's or an order's, or one word with few digits in it.
_CODE: Final = re.compile(r"-?\d{1,9}|(?!.*\d{6})[A-Za-z][A-Za-z0-9_.:-]{0,47}", re.ASCII)


class Subject(Protocol):
    """The part of an answer that a rule looks at."""

    @property
    def label(self) -> str:
        """What the part is called in a reason: ``errcode``, ``X-Error``, ``body``."""
        ...

    def value(self, reading: Reading) -> Any:
        """Return the value of the part; None where the answer has none. Raises ``Unfit`` as ``Reading.find`` does."""
        ...


@dataclass(frozen=True, slots=True)
class InHeader:
    """The value of a header, looked up in any case."""

    name: str

    @property
    def label(self) -> str:
        """The header's name as the file writes it, cut to 80 characters."""
        return self.name[:_LABEL_CHARS]

    def value(self, reading: Reading) -> Any:
        """Return the header's value, or None."""
        return reading.answer.headers.get(self.name.lower())


@dataclass(frozen=True, slots=True)
class AtPath:
    """What a path finds in the JSON body."""

    path: JsonPath

    @property
    def label(self) -> str:
        """The path as the file writes it, cut to 80 characters."""
        return self.path.expression[:_LABEL_CHARS]

    def value(self, reading: Reading) -> Any:
        """Return the decoded value, or None."""
        return reading.find(self.path)


@dataclass(frozen=True, slots=True)
class InBody:
    """The whole body as text, for platforms that answer ``success``."""

    label: str = "body"

    def value(self, reading: Reading) -> Any:
        """Return the text without white space at its ends."""
        return reading.text.strip()


class Met(NamedTuple):
    """What a rule found: why it holds, and the code that an answer named where it did (``10060004``)."""

    reason: str  # empty where only the status counts
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. With a ``subject`` it has exactly one of ``wanted``, ``exists`` and ``pattern``."""

    outcome: Outcome
    statuses: frozenset[int] | None = None  # None: any status
    subject: Subject | None = None  # None: the status alone decides
    wanted: Mapping[str, str] | None = None  # of ``in``: as ``comparable_values`` makes it
    exists: bool | None = None
    pattern: Pattern | None = None
    wait: Wait | None = None
    scope: Scope = "group"

    def match(self, reading: Reading) -> Met | None:
        """Return what was met when the rule holds for the answer, else None.

        Raises ``Unfit`` where it cannot be told, because the answer is too much to search.
        A reason is made of the rule's own words and of the code it met (``errcode=10060004``), never of other values a
        platform chose: those may echo what the callback holds.
        """
        if self.statuses is not None and reading.answer.status not in self.statuses:
            return None
        if self.subject is None:
            return Met("")
        return self._holds(self.subject.value(reading), self.subject.label)

    def _holds(self, value: Any, label: str) -> Met | None:
        """Return what was met when the condition holds for ``value``, else None."""
        if self.wanted is not None:
            named = self.wanted.get(_comparable(value) or "")
            return None if named is None else Met(f"{label}={named}", named)
        if self.pattern is not None:
            text = _comparable(value)
            found = text is not None and value is not None and self.pattern.matches(text)
            return _met(value, label, f"{label}~{self.pattern.pattern[:_LABEL_CHARS]}") if found else None
        if (value is not None) is not self.exists:
            return None
        return _met(value, label, f"{label} present") if self.exists else Met(f"{label} absent")


def comparable_values(values: Iterable[Scalar]) -> dict[str, str]:
    """Return the values of ``in`` in their comparable form, each with its form in a reason."""
    texts = (str(_comparable(value)) for value in values)
    return {text: text[:_LABEL_CHARS] for text in texts}


def _met(value: Any, label: str, otherwise: str) -> Met:
    """Return the reason with the code that was met, where ``value`` is one."""
    code = _comparable(value)
    return Met(otherwise) if code is None or _CODE.fullmatch(code) is None else Met(f"{label}={code}", code)


def _comparable(value: Any) -> str | None:
    """Return a scalar as the text it is compared by; None for objects and arrays.

    Numbers and the texts of numbers are equal, because platforms send both (``"code":"10032"``); true is not 1.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | float) else None
