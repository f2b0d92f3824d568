"""Runs the alerts: looks at the relay, lets the board decide, words the news for each target and posts it.

One round, every ``_LOOK_S``: 1. take a snapshot; 2. let the rules look at it; 3. put what they found on the board;
4. post what is due, one message for each target, or a digest of many; 5. tell machines again what still fires;
6. ask what became of earlier messages; 7. keep the board. A round that raises is told and the next one tries again: an
alert must never end the process it watches.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from relay.alerts.board import Alert, Board, Notice, Silence
from relay.alerts.facts import RelayFacts
from relay.alerts.keeping import BoardFile
from relay.alerts.mailbox import Mailbox
from relay.alerts.quiet import is_quiet
from relay.alerts.rules import AlertKey, look
from relay.alerts.shapes import Told, bodies
from relay.alerts.words import sentences
from relay.config.schema.alerts import AlertSettings, Language
from relay.core.clock import Clock, wall_shift_s
from relay.telemetry.events import Events
from relay.views.alerts import AlertPage, AlertView, DrillView, TargetView
from relay.views.moments import Instant

_LOOK_S: Final = 10.0
_ANSWERS_S: Final = 1.0  # between two looks at what became of messages on their way
_AGAIN_S: Final = 60.0  # prometheus.io/docs/alerting/clients: alerts are re-sent every 30 s to 3 minutes


class AlertDesk:
    """Everything about alerts, for the daemon to run and the operators' listener to ask."""

    def __init__(
        self,
        *,
        settings: AlertSettings,
        observe: Callable[[], Awaitable[RelayFacts]],
        mailbox: Mailbox,
        file: BoardFile,
        clock: Clock,
        wall: Callable[[], float],
        host: str,
        events: Events,
    ) -> None:
        """Wire it. ``observe()`` takes a snapshot; ``wall()`` is the wall clock; ``host`` stands in every message."""
        self._settings = settings
        self._observe = observe
        self._mailbox = mailbox
        self._file = file
        self._clock = clock
        self._wall = wall
        self._host = host
        self._events = events
        self._board = Board()
        self._told_again_at = 0.0
        self._fires: frozenset[AlertKey] = frozenset()

    def configure(self, settings: AlertSettings) -> None:
        """Put other targets and rules in force; what fires and was told stays."""
        self._settings = settings
        self._mailbox.forget(settings.targets)

    async def load(self) -> None:
        """Go on from what was told before a restart."""
        now = self._clock.now()
        self._board = await asyncio.to_thread(self._file.load)
        for alert in self._board.alerts:
            alert.seen_at = max(alert.seen_at, now)  # what was so before the restart gets a minute to show again
        self._fires = frozenset(alert.key for alert in self._board.alerts if alert.fires(now))

    async def run(self) -> None:
        """Look until cancelled; ``load`` comes first."""
        look_at = 0.0
        while True:
            try:
                if self._clock.now() >= look_at:
                    look_at = self._clock.now() + _LOOK_S
                    await self.round()
                elif self._mailbox.waiting():
                    await self._see_answers()
            except Exception as error:  # noqa: BLE001 - told; what watches the relay must not take it down
                self._events.alerts_failed(error=error)
            await asyncio.sleep(_ANSWERS_S)

    async def round(self) -> None:
        """Look once, and tell what is due."""
        facts = await self._observe()
        now = self._clock.now()
        rules = self._settings.rules.by_name()
        found, blind = look(facts, rules, self._board.known())
        self._board.see(found, blind, rules, now)
        self._tell_log(now)
        quiet = self._settings.quiet
        due = self._board.due(
            rules, now, quiet=is_quiet(quiet, self._wall()), loud=() if quiet is None else quiet.except_
        )
        # What nobody is there to be told of waits for a target to be configured. Noted before it is posted: whatever
        # goes wrong there must not make it go out every ten seconds.
        self._board.tell([each for each in due if each.alert.until or self._settings.receivers(each.alert.rule)], now)
        for target in self._settings.targets:
            mine = [news for news in due if target in self._settings.receivers(news.alert.rule)]
            if mine:
                await self._post(target, mine, now)
        await self._tell_again([news.alert.key for news in due], now)
        await self._see_answers()

    async def _see_answers(self) -> None:
        """Ask what became of messages, and keep the board with what has arrived by now."""
        await self._mailbox.look()
        await self._keep()

    def firing(self) -> dict[str, int]:
        """Return how many alerts of each rule fire, 0 for the rules that are on and find nothing."""
        return dict.fromkeys(self._settings.rules.by_name(), 0) | self._board.firing(self._clock.now())

    def page(self, language: Language = "en") -> AlertPage:
        """Return what fires, the newest first, then what ended in the last week, in words; and every target."""
        now = self._clock.now()
        firing = sorted((each for each in self._board.alerts if each.fires(now)), key=lambda each: -each.since)
        ended = sorted(
            [*self._board.past, *(each for each in self._board.alerts if each.until)], key=lambda each: -each.until
        )
        waiting = self._mailbox.waiting()
        targets = [
            TargetView(name=name, kind=target.kind, waiting=waiting.get(name, 0), last=self._mailbox.last.get(name))
            for name, target in self._settings.targets.items()
        ]
        return AlertPage([self._view(alert, language) for alert in (*firing, *ended)], targets)

    def _view(self, alert: Alert, language: Language) -> AlertView:
        silence = None if alert.until else self._board.silences.get(alert.rule)
        return AlertView(
            rule=alert.rule,
            status="resolved" if alert.until else "firing",
            platform=alert.about or None,
            group=alert.group or None,
            since=Instant(alert.since),
            until=Instant(alert.until) if alert.until else None,
            told_at=Instant(alert.told_at) if alert.told_at else None,
            silenced_until=None if silence is None else Instant(silence.until),
            **sentences(alert.rule, alert.about, alert.values, alert.size, language)._asdict(),
        )

    async def silence(self, rule: str, until: float, reason: str, by: str) -> None:
        """Tell nobody of a rule until then (relay clock); a time that is past ends a silence. Survives a restart."""
        self._board.silences.pop(rule, None)
        if until > self._clock.now():
            self._board.silences[rule] = Silence(until, reason, by)
        await self._keep()

    async def drill(self, target: str) -> DrillView:
        """Send a message to a target that says it is a drill, and wait for the answer. Raises KeyError."""
        settings = self._settings.targets[target]
        wall = self._wall()
        said = sentences("drill", "", {}, 0, settings.lang)
        told = Told("drill", "drill", "", "", wall, None, said)
        (payload,) = bodies(settings, [told], host=self._host, wall=wall)
        return await self._mailbox.drill(target, payload)

    async def note(self, target: str, about: str, values: Mapping[str, str]) -> None:
        """Put a message on its way that is no alert; ``about`` names its sentences. A target that is gone gets none."""
        settings = self._settings.targets.get(target)
        if settings is None:
            return
        wall = self._wall()
        said = sentences(about, "", values, 0, settings.lang)
        payloads = bodies(settings, [Told(about, "note", "", "", wall, None, said, values)], host=self._host, wall=wall)
        await self._mailbox.post(target, payloads, [])

    async def _post(self, target: str, news: Sequence[Notice], now: float) -> None:
        settings = self._settings.targets[target]
        told = [self._told(each, settings.lang, now) for each in news]
        payloads = bodies(settings, told, host=self._host, wall=self._wall())
        await self._mailbox.post(target, payloads, [each.alert.key for each in news])

    async def _tell_again(self, just_told: Collection[AlertKey], now: float) -> None:
        """Tell machines that end an alert by themselves what still fires."""
        if now - self._told_again_at < _AGAIN_S:
            return
        self._told_again_at = now
        for name, target in self._settings.targets.items():
            if target.kind != "alertmanager" or name in self._mailbox.waiting():
                continue
            lasting = [
                Notice(alert, "firing")
                for alert in self._board.alerts
                if alert.told_at and not alert.until and alert.key not in just_told
                if name in self._settings.receivers(alert.rule)
            ]
            if lasting:
                await self._post(name, lasting, now)

    def _told(self, news: Notice, language: Language, now: float) -> Told:
        alert = news.alert
        shift_s = wall_shift_s(now, self._wall())
        said = sentences(alert.rule, alert.about, alert.values, alert.size, language)
        until = alert.until + shift_s if alert.until else None
        return Told(alert.rule, news.status, alert.about, alert.group, alert.since + shift_s, until, said)

    def _tell_log(self, now: float) -> None:
        fires = frozenset(alert.key for alert in self._board.alerts if alert.fires(now))
        for key in sorted(fires - self._fires):
            self._events.alert_fires(rule=key.rule, about=key.about, group=key.group)
        for key in sorted(self._fires - fires):
            self._events.alert_resolved(rule=key.rule, about=key.about, group=key.group)
        self._fires = fires

    async def _keep(self) -> None:
        """Keep the board; what is still on its way counts as not told, so that a restart tells it."""
        unsent = self._mailbox.unsent()
        alerts: list[Any] = [
            msgspec.structs.replace(alert, told_at=0.0) if alert.key in unsent else alert
            for alert in self._board.alerts
        ]
        data = self._file.encode(msgspec.structs.replace(self._board, alerts=alerts))
        if data is not None:
            await asyncio.to_thread(self._file.write, data)
