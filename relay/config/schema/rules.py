"""The schema of ``classify``: rules that say what a platform's answer means. The first that holds decides.

Each section compiles itself into what ``wire`` asks for every answer, and once only.
"""

import re
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema, model_validator

from relay.config.problems import BadValue, quoted
from relay.config.reading.units import DURATION_PATTERN
from relay.config.schema.values import (
    AnswerPath,
    HeaderName,
    OrText,
    PositiveDuration,
    Regex,
    Section,
    UtcOffset,
    as_tuple,
    reading,
    required,
    setting,
)
from relay.core.model import Outcome
from relay.wire.answers.hints import Unit
from relay.wire.answers.rule_wait import AlignedWait, FixedWait, FoundWait, Wait
from relay.wire.answers.rules import AtPath, InBody, InHeader, Rule, Scalar, Scope, Subject, comparable_values

_OWN_OUTCOMES = (Outcome.PLAIN, Outcome.DOWN, Outcome.CRASH, Outcome.UNSENT)
OUTCOMES = tuple(outcome.value for outcome in Outcome if outcome not in _OWN_OUTCOMES)
"""What a rule may say; the others are what the relay itself sees on the wire."""

_ALIGN_S = {"minute": 60.0, "hour": 3600.0, "day": 86400.0}


def _parse_status(value: Any) -> frozenset[int]:
    """Return the status codes of ``200``, ``2xx`` or a list of such."""
    codes: set[int] = set()
    for index, part in enumerate(value if isinstance(value, list) else [value]):
        if isinstance(part, int) and not isinstance(part, bool) and 100 <= part <= 599:
            codes.add(part)
        elif isinstance(part, str) and re.fullmatch(r"[1-5]xx", part):
            codes.update(range(int(part[0]) * 100, int(part[0]) * 100 + 100))
        else:
            hint = "write 200, 2xx or a list such as [200, 202, 5xx]"
            raise BadValue("E030", f"{quoted(part)} is not a status", hint, at=(index,) * isinstance(value, list))
    if not codes:
        raise BadValue("E030", "the list of statuses is empty, so the rule would never match")
    return frozenset(codes)


def _parse_outcome(value: Any) -> Outcome:
    if value not in OUTCOMES:
        close = get_close_matches(str(value), OUTCOMES, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"choices are {', '.join(OUTCOMES)}"
        raise BadValue("E015", f"{quoted(value)} is not an outcome", hint)
    return Outcome(value)


def _parse_scalars(value: Any) -> tuple[Scalar, ...]:
    values = as_tuple(value)
    if not values or any(isinstance(one, dict | list) for one in values):
        raise BadValue("E030", "`in` needs a list of plain values", "write in: [0] or in: [OK, ACCEPTED]")
    return tuple(values)


def _wait_in_short(value: Any) -> Any:
    return value if value is None or isinstance(value, dict | WaitSection) else {"for": value}


_STATUS_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 100, "maximum": 599},
        {"type": "string", "pattern": "^[1-5]xx$"},
        {"type": "array", "items": {"type": ["integer", "string"]}, "minItems": 1},
    ]
}
_SCALARS_SCHEMA = {"type": "array", "items": {"type": ["string", "number", "boolean", "null"]}, "minItems": 1}

Status = Annotated[frozenset[int], PlainValidator(reading(_parse_status)), WithJsonSchema(_STATUS_SCHEMA)]
RuleOutcome = Annotated[
    Outcome, PlainValidator(reading(_parse_outcome)), WithJsonSchema({"type": "string", "enum": list(OUTCOMES)})
]
Scalars = Annotated[tuple[Scalar, ...], PlainValidator(reading(_parse_scalars)), WithJsonSchema(_SCALARS_SCHEMA)]


class WaitSection(Section):
    """How long the platform is left alone: a fixed time, or where the answer says it, or the next full period."""

    seconds: PositiveDuration | None = setting(None, "Wait this long; `wait: 60s` is short for it.", alias="for")
    header: HeaderName | None = setting(None, "Header of the answer that says how long.")
    path: AnswerPath | None = setting(None, "JMESPath into the answer's JSON body that says how long.")
    regex: Regex | None = setting(
        None,
        "Applied to what `header` or `path` found; its first group is the number. For texts such as 'retry in 30 s'.",
    )
    unit: Unit = setting(
        "auto",
        "How to read what was found: s, ms, epoch_s, epoch_ms, date, or auto. auto takes a number up to a month as "
        "seconds, a larger one as epoch seconds or milliseconds, and a text as a date.",
    )
    cap: PositiveDuration = setting(
        "1h", "Never wait longer than this, so that a wrong clock there cannot stop us here."
    )
    align: Literal["minute", "hour", "day"] | None = setting(
        None, "Wait until the next full minute, hour or day: platforms that count by the calendar start afresh then."
    )
    tz: UtcOffset = setting("UTC", "The platform's offset from UTC for `align`, such as +08:00.")

    @model_validator(mode="after")
    @reading
    def _one_source(self) -> "WaitSection":
        """Require exactly one way to know the time."""
        ways = [self.seconds is not None, self.header is not None, self.path is not None, self.align is not None]
        if sum(ways) != 1:
            raise BadValue("E030", "`wait` needs one of: a duration, header, path, align", "write wait: 60s")
        if self.regex is not None and self.header is None and self.path is None:
            raise BadValue("E030", "`regex` of `wait` needs a header or path to look into")
        return self

    def compiled(self) -> Wait:
        """Return what reads the wait out of an answer."""
        if self.seconds is not None:
            return FixedWait(self.seconds)
        if self.align is not None:
            return AlignedWait(_ALIGN_S[self.align], self.tz)
        source = self.header or self.path
        assert source is not None  # ``_one_source``
        return FoundWait(source, self.regex, self.unit, self.cap)


class RuleSection(Section):
    """One rule: all its conditions must hold, then the answer means `as`."""

    status: Status | None = setting(None, "The answer's status: 200, 2xx, or a list of them.")
    header: HeaderName | None = setting(None, "Header to look at with `in`, `exists` or `regex`.")
    path: AnswerPath | None = setting(
        None, "JMESPath into the answer's JSON body, looked at with `in`, `exists` or `regex`."
    )
    values: Scalars | None = setting(
        None, "What is found must be one of these; without path or header the whole body, as text.", alias="in"
    )
    exists: bool | None = setting(None, "true: something must be found; false: nothing may be found.")
    regex: Regex | None = setting(
        None, "Must match somewhere in what is found, read as text; without path or header in the whole body."
    )
    outcome: RuleOutcome = required(
        "What the answer means: ok | duplicate (had it already) | throttled (stop the platform) | retry | auth | "
        "reject (never again) | split (too large) | confirm (unclear, hold for a person).",
        alias="as",
    )
    wait: Annotated[WaitSection | None, BeforeValidator(_wait_in_short), OrText(DURATION_PATTERN)] = setting(
        None, "With as: throttled, retry or auth: how long to leave the platform alone."
    )
    scope: Scope | None = setting(
        None,
        "With as: throttled or retry on a platform with groups: what is left alone. Not set: the group the answer is "
        "about. platform: all of them, for a limit that they share.",
    )

    @model_validator(mode="after")
    @reading
    def _complete(self) -> "RuleSection":
        """Refuse rules that match everything, look at nothing or say two things."""
        tests = sum(test is not None for test in (self.values, self.exists, self.regex))
        if self.header is not None and self.path is not None:
            raise BadValue("E030", "the rule looks at a header and at a path", "make it two rules, or drop one")
        looks = self.header or self.path
        if looks is not None and tests != 1:
            found = "none" if not tests else "several"
            raise BadValue("E030", f"the rule needs one of in, exists, regex for {quoted(str(looks))}, it has {found}")
        if looks is None and self.exists is not None:
            raise BadValue("E030", "exists needs a path or header to look at", "add path: or header:")
        if tests > 1:
            raise BadValue("E030", "the rule has both in and regex", "make it two rules, or drop one")
        if looks is None and not tests and self.status is None:
            raise BadValue("E030", "the rule has no condition, so it would hold for every answer", "add status: 2xx")
        if self.wait is not None and self.outcome not in (Outcome.THROTTLED, Outcome.RETRY, Outcome.AUTH):
            raise BadValue("E030", f"`wait` has no meaning with as: {self.outcome.value}", "remove it")
        if self.scope is not None and self.outcome not in (Outcome.THROTTLED, Outcome.RETRY):
            raise BadValue("E030", f"`scope` has no meaning with as: {self.outcome.value}", "remove it")
        return self

    @cached_property
    def compiled(self) -> Rule:
        """The rule as ``wire`` asks it."""
        return Rule(
            self.outcome,
            statuses=self.status,
            subject=self._subject(),
            wanted=None if self.values is None else comparable_values(self.values),
            exists=self.exists,
            pattern=self.regex,
            wait=None if self.wait is None else self.wait.compiled(),
            scope=self.scope or "group",
        )

    def _subject(self) -> Subject | None:
        if self.header is not None:
            return InHeader(self.header)
        if self.path is not None:
            return AtPath(self.path)
        return InBody() if self.values is not None or self.regex is not None else None
