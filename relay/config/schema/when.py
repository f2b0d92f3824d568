"""The schema of when callbacks go: times of day, and ``send``, ``objective`` and ``coalesce`` of a platform."""

import re
from datetime import time, timedelta, timezone, tzinfo
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema, model_validator

from relay.config.problems import BadValue, quoted
from relay.config.reading import units
from relay.config.reading.texts import parse_utc_offset
from relay.config.schema.values import Duration, OrText, PositiveDuration, Section, parsed, reading, required, setting
from relay.policy.hours import SendingHours


def _clock_time(value: Any) -> time:
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", value) if isinstance(value, str) else None
    if found is None:
        hint = 'write "00:00" for midnight' if value == "24:00" else 'write "23:00"'
        raise BadValue("E031", f"{quoted(value)} is not a time of day", hint)
    return time(int(found[1]), int(found[2]))


def _zone(value: Any) -> tzinfo:
    try:
        if isinstance(value, str) and re.match(r"UTC$|Z$|[+-]\d", value):
            return timezone(timedelta(seconds=parse_utc_offset(value)))
        return ZoneInfo(value)
    except (OSError, ValueError, KeyError, TypeError):
        hint = "write a name such as Asia/Shanghai, or an offset such as +08:00"
        if meant := _zone_meant(str(value)):
            hint = f"did you mean {meant!r}?"
        raise BadValue("E031", f"{quoted(value)} is not a time zone this machine knows", hint) from None


def _zone_meant(text: str) -> str:
    """Return the zone meant by ``UTC+8``, ``+0800``, ``Shanghai`` or ``Asia/Shangai``; empty where nobody can tell."""
    if offset := re.fullmatch(r"(?:UTC|GMT)?([+-])(1[0-4]|0?\d):?([0-5]\d)?", text, re.IGNORECASE):
        return f"{offset[1]}{int(offset[2]):02}:{offset[3] or '00'}"
    if text.lower() in ("asia/beijing", "beijing", "北京", "上海", "asia/peking"):
        return "Asia/Shanghai"  # the database of time zones has no other name for it
    area, _, city = text.rpartition("/")
    near = [name for name in _zone_names() if name.startswith(f"{area}/")]
    close = get_close_matches(text[:_LONGEST_ZONE], near, 1, 0.8)
    return close[0] if close else next((name for name in _zone_names() if name.endswith(f"/{city}")), "")


@cache
def _zone_names() -> list[str]:
    """Return what this machine calls its zones; a file may have thousands of wrong ones, and looking takes 20 ms."""
    return sorted(available_timezones())


def _span(value: Any) -> tuple[time, time]:
    if not isinstance(value, list) or len(value) != 2:
        raise BadValue("E031", f"{quoted(value)} is not a pair of times", 'write ["08:00", "22:00"]')
    bad = [one for one in value if isinstance(one, dict | list) or not re.fullmatch(_CLOCK, str(one))]
    if len(bad) > 1:
        raise BadValue(
            "E031", f"{quoted(bad[0])} and {quoted(bad[1])} are not times of day", 'write ["08:00", "22:00"]'
        )
    opens, closes = (_clock_time(one) for one in value)
    if opens == closes:
        raise BadValue(
            "E051", f"from {opens:%H:%M} to {closes:%H:%M} it never opens", "leave `send` out to send at any time"
        )
    return opens, closes


def _coalesce_word(value: Any) -> Any:
    if not isinstance(value, str | bool):
        return value
    if value not in _MODES:
        meant = _SWITCHES.get(str(value).lower())
        hint = f"did you mean {meant!r}?" if meant else f"choices are {', '.join(_MODES)}"
        raise BadValue("E015", f"{quoted(value)} is not a choice", hint)
    return {"mode": value}


_DAY_S = 86400.0
_LONGEST_ZONE = 40  # characters: America/Argentina/ComodRivadavia has 32
_MODES = ("none", "latest")
_SWITCHES = {"on": "latest", "yes": "latest", "true": "latest", "off": "none", "no": "none", "false": "none"}
_CLOCK = r"^([01]?\d|2[0-3]):[0-5]\d$"
ClockTime = Annotated[time, PlainValidator(reading(_clock_time)), WithJsonSchema({"type": "string", "pattern": _CLOCK})]
Zone = Annotated[tzinfo, PlainValidator(reading(_zone)), WithJsonSchema({"type": "string"})]
_Span = Annotated[
    tuple[time, time],
    PlainValidator(reading(_span)),
    WithJsonSchema({"type": "array", "items": {"type": "string", "pattern": _CLOCK}, "minItems": 2, "maxItems": 2}),
]


class SendSection(Section):
    """At which hours callbacks may go; outside of them nothing is sent."""

    between: _Span = required(
        'Opening and closing time, such as ["08:00", "22:00"]; over midnight where it closes first.'
    )
    tz: Zone = setting("UTC", "The zone of these times: a name such as Asia/Shanghai, or an offset.")

    @property
    def hours(self) -> SendingHours:
        """The hours as delivery keeps them."""
        return SendingHours(*self.between, self.tz)


def _wanted_share(value: Any) -> float:
    share = units.parse_share(value)
    if share <= 0.0:
        raise BadValue("E016", "a share of 0% promises nothing", "write 99%, or leave `objective` out")
    return share


class ObjectiveSection(Section):
    """How late callbacks may be."""

    within: PositiveDuration = required("From acceptance, or from Relay-Not-Before, to delivery: 90s.")
    share: Annotated[float, *parsed(_wanted_share, units.SHARE_PATTERN, "99%")] = setting(
        "99%", "So many callbacks must be delivered within it; those that die or expire count as late."
    )

    @model_validator(mode="after")
    @reading
    def _within_a_day(self) -> "ObjectiveSection":
        """Refuse a time that no history reaches."""
        if self.within > _DAY_S:
            raise BadValue(
                "E016", "within is longer than 24 hours, over which it is counted", "shorten it", at=("within",)
            )
        return self


class CoalesceSection(Section):
    """Which of the callbacks of a key go, and how long the newest waits for a newer one."""

    mode: Literal["none", "latest"] = required(
        "latest: a newer callback of a key supersedes older ones not in a batch."
    )
    quiet: Duration = setting("0s", "Wait until nothing newer of the key came for this long. 0s does not wait.")
    max: PositiveDuration = setting("30s", "But at most this long from the first that is superseded.")

    @model_validator(mode="after")
    @reading
    def _waits_sensibly(self) -> "CoalesceSection":
        """Refuse waits that cannot work."""
        if self.quiet and self.mode == "none":
            raise BadValue("E051", "quiet waits for newer ones to coalesce with", "write mode: latest", at=("quiet",))
        if self.quiet and self.max <= self.quiet:
            what = "max is not longer than quiet, so no newer callback could ever make it wait"
            raise BadValue("E051", what, "raise max, or shorten quiet", at=("max",))
        return self


Coalesce = Annotated[CoalesceSection, BeforeValidator(reading(_coalesce_word)), OrText("(none|latest)")]
