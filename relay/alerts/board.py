"""What fires, since when, and what of it has been told. Decides when to tell: first, again, resolved, not now.

All times are on the relay clock, in seconds. Nothing here looks at a clock, a file or the network. An example with
``repeat: 1h``: a platform is late at 10:00 and told; it is told again at 11:00; at 11:20 nothing waits any more, and
at 11:21 (``_CLEAR_S`` later) one message says that it is over.
"""

import math
from collections.abc import Collection, Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from relay.alerts.rules import AlertKey, Trouble
from relay.config.schema.alerts import AlertRule

_CLEAR_S: Final = 60.0  # what comes and goes within a minute is one alert, not many
_QUIET_DAY_S: Final = 86400.0  # a group that grows again after so long is news
_TENFOLD: Final = 10
_KEPT_S: Final = 7 * 86400.0
_MOST_PAST: Final = 500
_MOST_KINDS: Final = 50  # of one alert: a platform with a code of its own for each callback

Status = Literal["firing", "resolved", "drill", "note"]


class Alert(msgspec.Struct):
    """One alert. ``told_at`` 0: nobody was told yet. ``until`` 0: it lasts."""

    rule: str
    about: str
    group: str
    since: float
    after_s: float
    seen_at: float
    until: float = 0.0
    told_at: float = 0.0
    size: int = 0
    told_size: int = 0
    grew_at: float = 0.0
    values: dict[str, int | float | str] = {}
    kinds: dict[str, int] = {}  # of its size, by exact kind

    @property
    def key(self) -> AlertKey:
        """Which alert it is."""
        return AlertKey(self.rule, self.about, self.group)

    def fires(self, now: float) -> bool:
        """Tell whether it is so now, and has lasted as long as its rule wants."""
        return not self.until and now - self.since >= self.after_s


class Silence(msgspec.Struct):
    """Nobody is told of a rule until then; who wanted it and why."""

    until: float
    reason: str
    by: str


class Notice(NamedTuple):
    """Something to tell of an alert."""

    alert: Alert
    status: Status


class Board(msgspec.Struct):
    """All alerts; this is also the form in which they are kept over a restart."""

    alerts: list[Alert] = []
    past: list[Alert] = []
    silences: dict[str, Silence] = {}
    told_at: dict[str, float] = {}  # by rule: the last message about it, for its digest

    def known(self) -> list[AlertKey]:
        """Return which alerts there are."""
        return [alert.key for alert in self.alerts if not alert.until]

    def firing(self, now: float) -> dict[str, int]:
        """Return how many alerts of each rule fire."""
        counts: dict[str, int] = {}
        for alert in self.alerts:
            if alert.fires(now):
                counts[alert.rule] = counts.get(alert.rule, 0) + 1
        return counts

    def see(self, found: Collection[Trouble], blind: Collection[str], rules: Collection[str], now: float) -> None:
        """Take in what a look found: alerts begin, go on, grow and end. Rules that are ``blind`` change nothing.

        An alert whose rule is not among ``rules`` any more (switched off) goes without a word.
        """
        self.alerts = [alert for alert in self.alerts if alert.rule in rules]
        there = {alert.key: alert for alert in self.alerts}
        for trouble in found:
            alert = there.get(trouble.key)
            if alert is None:
                alert = Alert(*trouble.key, since=now, after_s=trouble.after_s, seen_at=now)
                self.alerts.append(alert)
            alert.seen_at, alert.until, alert.values = now, 0.0, dict(trouble.values)
            _grow(alert, trouble.grown, now)
            _tell_apart(alert, trouble.kinds)
        for alert in self.alerts:
            if not alert.until and alert.rule not in blind and now - alert.seen_at >= _CLEAR_S:
                alert.until = alert.seen_at
        for alert in [alert for alert in self.alerts if alert.until and not alert.told_at]:
            self._end(alert, worth_keeping=alert.until - alert.since >= alert.after_s)
        self.past = [alert for alert in self.past if now - alert.until < _KEPT_S][-_MOST_PAST:]
        self.silences = {rule: silence for rule, silence in self.silences.items() if silence.until > now}

    def due(
        self, rules: Mapping[str, AlertRule], now: float, *, quiet: bool, loud: Collection[str] = ()
    ) -> list[Notice]:
        """Return what is to be told now. In ``quiet`` hours only rules among ``loud`` speak; the rest waits."""
        return [
            Notice(alert, "resolved" if alert.until else "firing")
            for alert in self.alerts
            if self._may_speak(alert.rule, rules, now, quiet=quiet, loud=loud) and _has_news(alert, rules, now)
        ]

    def tell(self, news: Collection[Notice], now: float) -> None:
        """Take note that ``news`` were told."""
        for alert, status in news:
            self.told_at[alert.rule] = now
            if status == "resolved":
                self._end(alert, worth_keeping=True)
            else:
                alert.told_at, alert.told_size = now, alert.size

    def _may_speak(
        self, rule: str, rules: Mapping[str, AlertRule], now: float, *, quiet: bool, loud: Collection[str]
    ) -> bool:
        gathered_s = now - self.told_at.get(rule, -math.inf)
        return rule not in self.silences and (not quiet or rule in loud) and gathered_s >= rules[rule].digest

    def _end(self, alert: Alert, *, worth_keeping: bool) -> None:
        self.alerts.remove(alert)
        if worth_keeping:
            self.past.append(alert)


def _grow(alert: Alert, by: int, now: float) -> None:
    if by:
        if alert.grew_at and now - alert.grew_at >= _QUIET_DAY_S:
            alert.told_size = 0
        alert.size += by
        alert.grew_at = now


def _tell_apart(alert: Alert, kinds: Mapping[str, int]) -> None:
    """Count what came by its exact kind, and name the most frequent one, with how many there are."""
    for kind, count in kinds.items():
        if kind in alert.kinds or len(alert.kinds) < _MOST_KINDS:
            alert.kinds[kind] = alert.kinds.get(kind, 0) + count
    if alert.kinds:
        kind, most = max(alert.kinds.items(), key=lambda each: each[1])
        alert.values |= {"kind": kind, "most": most}


def _has_news(alert: Alert, rules: Mapping[str, AlertRule], now: float) -> bool:
    if alert.until:
        return True
    if not alert.fires(now):
        return False
    repeat_s = rules[alert.rule].repeat
    again = repeat_s is not None and now - alert.told_at >= repeat_s
    grown = alert.size > 0 and alert.size >= _TENFOLD * alert.told_size
    return not alert.told_at or again or grown
