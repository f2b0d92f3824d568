"""The routes about alerts: what fires and fired, silences, and drills."""

from typing import Protocol

from relay.admin.audit import Audit
from relay.admin.call import Call, object_body
from relay.admin.filters import did_you_mean
from relay.admin.standing.times import WallTimes
from relay.config.problems import BadValue
from relay.config.reading.units import parse_duration
from relay.config.schema.alerts import RULE_NAMES, Language
from relay.core.raw import JsonObject
from relay.views.alerts import AlertPage, DrillView, SilenceView
from relay.views.moments import Instant, instant_text
from relay.web.refusal import Refusal, wants_chinese
from relay.web.response import Response

_LONGEST_S = 30 * 86400.0


class Alarms(Protocol):
    """The part of the alerts that operators see and act on."""

    def page(self, language: Language = "en") -> AlertPage:
        """Return what fires and ended lately, in words of a language, and who is told."""
        ...

    async def silence(self, rule: str, until: float, reason: str, by: str) -> None:
        """Tell nobody of a rule until then, on the relay clock."""
        ...

    async def drill(self, target: str) -> DrillView:
        """Send a drill and wait for its answer. Raises KeyError for a target there is none of."""
        ...


class AlertRoutes:
    """Serves the routes."""

    def __init__(self, *, alarms: Alarms, audit: Audit, times: WallTimes) -> None:
        self._alarms = alarms
        self._audit = audit
        self._times = times

    async def list(self, call: Call) -> Response:
        """GET /v1/alerts: those that fire and those of the last 7 days, and how the targets do."""
        return self._times.answer(self._alarms.page("zh-CN" if wants_chinese(call.languages) else "en"))

    async def silence(self, call: Call) -> Response:
        """POST /v1/alerts/{rule}/silence: ``for`` how long, 0s ends a silence."""
        rule = call.params["rule"]
        if rule not in RULE_NAMES:
            raise Refusal("not_found", f"no alert rule '{rule[:80]}'{did_you_mean(rule, RULE_NAMES)}")
        body = object_body(call.body, allowed=("for", "reason"))
        until = self._times.now() + _for_s(body)
        reason = body.get("reason", "")
        told = instant_text(until, self._times.shift_s)
        await self._audit.record(call.who, "alert.silence", rule, reason=reason, until=told)
        await self._alarms.silence(rule, until, reason, call.who.name)
        return self._times.answer(SilenceView(rule, Instant(until), reason))

    async def drill(self, call: Call) -> Response:
        """POST /v1/alert-targets/{target}/test: ``arrived``, and what was answered."""
        name = call.params["target"]
        names = [target.name for target in self._alarms.page().targets]
        if name not in names:
            raise Refusal("not_found", f"no alert target '{name[:80]}'{did_you_mean(name, names)}")
        reason = object_body(call.body, allowed=("reason",)).get("reason", "")
        await self._audit.record(call.who, "alert.test", name, reason=reason)
        return self._times.answer(await self._alarms.drill(name))


def _for_s(body: JsonObject) -> float:
    try:
        for_s = parse_duration(body.get("for"))
    except BadValue as error:
        raise Refusal("invalid_request", f"'for': {error.message}; write 2h", key="for") from error
    if for_s > _LONGEST_S:
        raise Refusal("invalid_request", "'for' is longer than 30d; switch the rule off instead", key="for")
    return for_s
