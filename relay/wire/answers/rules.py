"""A platform's ``classify`` rules: compiled once from the configuration, asked for every answer.

A rule is ``{status, header | path, in | exists | regex, as, wait, scope}``. All its conditions must hold. ``in`` and
``regex`` without ``header`` or ``path`` look at the text of the body, for platforms that answer ``success``.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from relay.core.model import Outcome
from relay.wire.answers.reading import Reading
from relay.wire.answers.rule_wait import Wait, compile_header, compile_path, compile_wait
from relay.wire.regex import Pattern, compile_regex

Scope = Literal["group", "platform"]

# The outcomes a configuration may name (SPEC 6). The others are the relay's own words for what the wire did.
_OUTCOMES: Final = {
    outcome.value: outcome
    for outcome in (
        *(Outcome.OK, Outcome.DUPLICATE, Outcome.THROTTLED, Outcome.RETRY),
        *(Outcome.AUTH, Outcome.REJECT, Outcome.SPLIT, Outcome.CONFIRM),
    )
}
_KEYS: Final = ("status", "header", "path", "in", "exists", "regex", "as", "wait", "scope")
_CLASS: Final = re.compile(r"([1-5])xx")
_LABEL_CHARS: Final = 80
# What platforms use as a code: a number too short for a telephone's or an order's, or one word with few digits in it.
_CODE: Final = re.compile(r"-?\d{1,9}|(?!.*\d{6})[A-Za-z][A-Za-z0-9_.:-]{0,47}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled rule."""

    outcome: Outcome
    wait: Wait | None
    scope: Scope
    statuses: frozenset[int] | None
    subject: Callable[[Reading], Any] | None
    label: str  # what of the answer it looks at, for the reason
    wanted: Mapping[str, str] | None  # of ``in``: comparable form -> form in the reason
    exists: bool | None
    pattern: Pattern | None

    def match(self, reading: Reading) -> str | None:
        """Return the reason when the rule holds for the answer, else None.

        Raises ``Unfit`` where it cannot be told, because the answer is too much to search.
        A reason is made of the rule's own words and of the code it met (``errcode=10060004``), never of other values a
        platform chose: those may echo what the callback holds.
        """
        if self.statuses is not None and reading.answer.status not in self.statuses:
            return None
        if self.subject is None:
            return self.label
        return self.holds(self.subject(reading))

    def holds(self, value: Any) -> str | None:
        """Return the reason when the condition holds for ``value``, else None."""
        if self.wanted is not None:
            named = self.wanted.get(_comparable(value) or "")
            return None if named is None else f"{self.label}={named}"
        if self.pattern is not None:
            text = _comparable(value)
            found = text is not None and value is not None and self.pattern.matches(text)
            return self._met(value, f"{self.label}~{self.pattern.pattern[:_LABEL_CHARS]}") if found else None
        if (value is not None) is not self.exists:
            return None
        return self._met(value, f"{self.label} present") if self.exists else f"{self.label} absent"

    def _met(self, value: Any, otherwise: str) -> str:
        code = _comparable(value)
        return otherwise if code is None or _CODE.fullmatch(code) is None else f"{self.label}={code}"


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


def compile_rule(mapping: Mapping[str, Any]) -> Rule:
    """Compile one rule of ``classify``; keys with the value None count as absent.

    Raises ``ValueError`` saying what is wrong with it.
    """
    if not isinstance(mapping, Mapping):
        raise ValueError(f"a rule is a mapping such as {{status: 429, as: throttled}}, not {mapping!r}")
    mapping = {name: value for name, value in mapping.items() if value is not None}
    unknown = [str(name) for name in mapping if name not in _KEYS]
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)} in a rule; it takes {', '.join(_KEYS)}")
    outcome = _OUTCOMES.get(mapping.get("as", ""))
    if outcome is None:
        raise ValueError(f"a rule's `as` is one of {', '.join(_OUTCOMES)}, not {mapping.get('as')!r}")
    scope = mapping.get("scope", "group")
    if scope not in ("group", "platform"):
        raise ValueError(f"a rule's scope is group or platform, not {scope!r}")
    tests = [name for name in ("in", "exists", "regex") if name in mapping]
    if len(tests) > 1:
        raise ValueError(f"a rule has one of in, exists and regex, not {' and '.join(tests)}")
    subject, label = _compile_subject(mapping, tests)
    if "status" not in mapping and subject is None:
        raise ValueError("a rule needs a condition: status, or header or path with in, exists or regex")
    exists = mapping.get("exists")
    if "exists" in mapping and not isinstance(exists, bool):
        raise ValueError(f"a rule's exists is true or false, not {exists!r}")
    return Rule(
        outcome=outcome,
        wait=compile_wait(mapping["wait"]) if "wait" in mapping else None,
        scope=scope,
        statuses=_compile_statuses(mapping["status"]) if "status" in mapping else None,
        subject=subject,
        label=label,
        wanted=_compile_wanted(mapping["in"]) if "in" in mapping else None,
        exists=exists,
        pattern=compile_regex(mapping["regex"]) if "regex" in mapping else None,
    )


def _compile_subject(mapping: Mapping[str, Any], tests: Sequence[str]) -> tuple[Callable[[Reading], Any] | None, str]:
    """Return what the rule looks at and what to call it; None when only the status counts."""
    header, path = mapping.get("header"), mapping.get("path")
    if header is not None and path is not None:
        raise ValueError("a rule has header or path, not both; write two rules")
    if (header is not None or path is not None) and not tests:
        raise ValueError(f"a rule with {'path' if header is None else 'header'} needs in, exists or regex")
    if header is not None:
        name = compile_header(header)
        return lambda reading: reading.answer.headers.get(name), str(header).strip()[:_LABEL_CHARS]
    if path is not None:
        compiled = compile_path(path)
        return lambda reading: reading.find(compiled), path[:_LABEL_CHARS]
    if tests == ["exists"]:
        raise ValueError("exists needs the header or path that it is about")
    if tests:
        return lambda reading: reading.text.strip(), "body"
    return None, ""


def _compile_wanted(values: Any) -> dict[str, str]:
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"a rule's `in` is a list of values, such as [0], not {values!r}")
    wanted = {}
    for value in values:
        text = _comparable(value)
        if text is None:
            raise ValueError(f"a rule's `in` holds texts, numbers, true, false or null, not {value!r}")
        wanted[text] = text[:_LABEL_CHARS]
    return wanted


def _compile_statuses(status: Any) -> frozenset[int]:
    statuses: set[int] = set()
    for entry in status if isinstance(status, list | tuple | set | frozenset) else [status]:
        found = _CLASS.fullmatch(entry.lower()) if isinstance(entry, str) else None
        if found is not None:
            statuses.update(range(int(found[1]) * 100, int(found[1]) * 100 + 100))
        elif isinstance(entry, int) and not isinstance(entry, bool) and 100 <= entry <= 599:
            statuses.add(entry)
        else:
            raise ValueError(
                f"a rule's status is a number from 100 to 599, such as 200, or a class such as 2xx, not {entry!r}"
            )
    if not statuses:
        raise ValueError("a rule's status is an empty list; leave it out to mean any")
    return frozenset(statuses)
