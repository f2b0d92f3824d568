"""What operators may do to platforms, from any host: done here where the platform is ours, else asked of its owner."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from relay.admin.resources.platform_routes import PlatformControl
from relay.core.clock import elapsed_s
from relay.core.model import Rate
from relay.core.raw import Record
from relay.hosts.errands import Errands
from relay.hosts.rules.spans import RENEW_EVERY_S
from relay.views.live import LiveFacts
from relay.views.moments import plain, read

UNOWNED = LiveFacts(waits_for="owner")
"""Of a platform that no host sends for now."""


class SharedControl:
    """The control that the admin API uses where several hosts share the store."""

    def __init__(
        self,
        local: PlatformControl,
        errands: Errands,
        *,
        runs: Callable[[str], bool],
        configured: Callable[[], Iterable[str]],
        elsewhere: Callable[[], Mapping[str, LiveFacts]],
    ) -> None:
        """``local`` raises ``KeyError`` for a platform that does not run here.

        ``configured`` names the platforms in the file's order, ``elsewhere`` tells of those of other hosts.
        """
        self._local = local
        self._errands = errands
        self._runs = runs
        self._configured = configured
        self._elsewhere = elsewhere
        self.seen: dict[str, LiveFacts] = {}  # as each platform stood while a host last sent for it
        self._told: dict[str, tuple[float, LiveFacts]] = {}  # with the answer to an errand; newer than the last beat

    def views(self) -> Mapping[str, LiveFacts]:
        """Return what goes on at each configured platform, whoever sends for it."""
        oldest = elapsed_s() - RENEW_EVERY_S
        self._told = {name: told for name, told in self._told.items() if told[0] > oldest}
        fresh = {name: facts for name, (_, facts) in self._told.items()}
        found = {**self._elsewhere(), **fresh, **self._local.views()}
        configured = list(self._configured())
        self.seen = {name: facts for name in configured if (facts := found.get(name) or self.seen.get(name))}
        return {name: found.get(name, UNOWNED) for name in configured}

    async def pause(self, name: str, reason: str, *, until: float | None, deed: Record) -> None:
        """See ``PlatformControl``; so for the others."""
        if self._is_here(name):
            await self._local.pause(name, reason, until=until, deed=deed)
        else:
            await self._ask(name, "pause", reason=reason, until=until, deed=dict(deed))

    async def resume(self, name: str) -> int:
        """Return how many callbacks are due now by it."""
        return await self._local.resume(name) if self._is_here(name) else int(await self._ask(name, "resume"))

    async def flush(self, name: str, group: str | None = None) -> None:
        """Send what is pending at once."""
        await (self._local.flush(name, group) if self._is_here(name) else self._ask(name, "flush", group=group))

    async def pause_group(self, name: str, group: str, reason: str, *, until: float | None, deed: Record) -> None:
        """Send nothing more for a group."""
        if self._is_here(name):
            await self._local.pause_group(name, group, reason, until=until, deed=deed)
        else:
            await self._ask(name, "pause_group", group=group, reason=reason, until=until, deed=dict(deed))

    async def resume_group(self, name: str, group: str, *, deed: Record) -> None:
        """End the pause or the stop of a group."""
        if self._is_here(name):
            await self._local.resume_group(name, group, deed=deed)
        else:
            await self._ask(name, "resume_group", group=group, deed=dict(deed))

    async def limit_group(
        self, name: str, group: str, rates: Sequence[Rate], *, until: float | None, reason: str, deed: Record
    ) -> None:
        """Put rates in force for a group."""
        if self._is_here(name):
            await self._local.limit_group(name, group, rates, until=until, reason=reason, deed=deed)
        else:
            plainly = [(rate.limit, rate.window_s) for rate in rates]
            words = {"rates": plainly, "until": until, "reason": reason, "deed": dict(deed)}
            await self._ask(name, "limit_group", group=group, **words)

    async def limit(self, name: str, rates: Sequence[Rate], *, until: float | None, reason: str) -> None:
        """Put rates in force beside the configured ones."""
        if self._is_here(name):
            await self._local.limit(name, rates, until=until, reason=reason)
        else:
            plainly = [(rate.limit, rate.window_s) for rate in rates]
            await self._ask(name, "limit", rates=plainly, until=until, reason=reason)

    async def forget_limit(self, name: str) -> None:
        """Learn the platform's limits anew."""
        await (self._local.forget_limit(name) if self._is_here(name) else self._ask(name, "forget_limit"))

    def _is_here(self, name: str) -> bool:
        if name not in self._configured():
            raise KeyError(name)
        return self._runs(name)

    async def _ask(self, name: str, verb: str, **words: Any) -> Any:
        done = await self._errands.ask(name, verb, **words)
        self._told[name] = elapsed_s(), read(LiveFacts, done["live"])
        return done["value"]


async def carry_out(local: PlatformControl, name: str, verb: str, words: Mapping[str, Any]) -> Any:
    """Do here what another host asked for; return its value and how things stand after it.

    Raises ``KeyError`` for a platform that does not run here.
    """
    value = await _do(local, name, verb, words)
    return {"value": value, "live": plain(local.views()[name])}


async def _do(local: PlatformControl, name: str, verb: str, words: Mapping[str, Any]) -> Any:
    match verb:
        case "pause":
            return await local.pause(name, words["reason"], until=words["until"], deed=words["deed"])
        case "resume":
            return await local.resume(name)
        case "flush":
            return await local.flush(name, words.get("group"))
        case "pause_group":
            told = {"until": words["until"], "deed": words["deed"]}
            return await local.pause_group(name, words["group"], words["reason"], **told)
        case "resume_group":
            return await local.resume_group(name, words["group"], deed=words["deed"])
        case "limit_group":
            rates = [Rate(limit, window_s) for limit, window_s in words["rates"]]
            told = {"until": words["until"], "reason": words["reason"], "deed": words["deed"]}
            return await local.limit_group(name, words["group"], rates, **told)
        case "limit":
            rates = [Rate(limit, window_s) for limit, window_s in words["rates"]]
            return await local.limit(name, rates, until=words["until"], reason=words["reason"])
        case "forget_limit":
            return await local.forget_limit(name)
    raise KeyError(verb)
