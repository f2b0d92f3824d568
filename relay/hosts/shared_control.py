"""What operators may do to platforms, from any host: done here where the platform is ours, else asked of its owner."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from relay.core.model import Rate
from relay.core.raw import Record
from relay.hosts.errands import Errands
from relay.views.live import LiveFacts

UNOWNED = LiveFacts(waits_for="owner")
"""Of a platform that no host sends for now."""


class LocalControl(Protocol):
    """What this host's pipelines tell and do; each raises ``KeyError`` for a platform that does not run here."""

    def views(self) -> Mapping[str, LiveFacts]:
        """Return what goes on at the platforms that run here."""
        ...

    async def pause(self, name: str, reason: str, *, until: float | None, deed: Record | None = None) -> None:
        """Send nothing more until resumed."""
        ...

    async def resume(self, name: str) -> int:
        """End a pause or every stop."""
        ...

    async def flush(self, name: str) -> None:
        """Send without waiting for pace or linger."""
        ...

    async def limit(self, name: str, rates: Sequence[Rate], *, until: float | None, reason: str) -> None:
        """Put rates in force."""
        ...

    async def forget_limit(self, name: str) -> None:
        """Learn anew."""
        ...


class SharedControl:
    """The control that the admin API uses where several hosts share the store."""

    def __init__(
        self,
        local: LocalControl,
        errands: Errands,
        *,
        owns: Callable[[str], bool],
        configured: Callable[[], Iterable[str]],
        elsewhere: Callable[[], Mapping[str, LiveFacts]],
    ) -> None:
        """``configured`` names the platforms in the file's order, ``elsewhere`` tells of those of other hosts."""
        self._local = local
        self._errands = errands
        self._owns = owns
        self._configured = configured
        self._elsewhere = elsewhere

    def views(self) -> Mapping[str, LiveFacts]:
        """Return what goes on at each configured platform, whoever sends for it."""
        mine, others = self._local.views(), self._elsewhere()
        return {name: mine.get(name) or others.get(name, UNOWNED) for name in self._configured()}

    async def pause(self, name: str, reason: str, *, until: float | None, deed: Record) -> None:
        """See ``LocalControl``; so for the others."""
        if self._is_here(name):
            return await self._local.pause(name, reason, until=until, deed=deed)
        await self._errands.ask(name, "pause", reason=reason, until=until, deed=dict(deed))
        return None

    async def resume(self, name: str) -> int:
        """Return how many callbacks are due now by it."""
        if self._is_here(name):
            return await self._local.resume(name)
        return int(await self._errands.ask(name, "resume"))

    async def flush(self, name: str) -> None:
        """Send what is pending at once."""
        if self._is_here(name):
            return await self._local.flush(name)
        await self._errands.ask(name, "flush")
        return None

    async def limit(self, name: str, rates: Sequence[Rate], *, until: float | None, reason: str) -> None:
        """Put rates in force beside the configured ones."""
        if self._is_here(name):
            return await self._local.limit(name, rates, until=until, reason=reason)
        await self._errands.ask(
            name, "limit", rates=[dataclasses.astuple(rate) for rate in rates], until=until, reason=reason
        )
        return None

    async def forget_limit(self, name: str) -> None:
        """Learn the platform's limits anew."""
        if self._is_here(name):
            return await self._local.forget_limit(name)
        await self._errands.ask(name, "forget_limit")
        return None

    def _is_here(self, name: str) -> bool:
        if name not in self._configured():
            raise KeyError(name)
        return self._owns(name)


async def carry_out(local: LocalControl, name: str, verb: str, words: Mapping[str, Any]) -> Any:
    """Do here what another host asked for. Raises ``KeyError`` for a platform that does not run here."""
    match verb:
        case "pause":
            return await local.pause(name, words["reason"], until=words["until"], deed=words["deed"])
        case "resume":
            return await local.resume(name)
        case "flush":
            return await local.flush(name)
        case "limit":
            rates = [Rate(limit, window_s) for limit, window_s in words["rates"]]
            return await local.limit(name, rates, until=words["until"], reason=words["reason"])
        case "forget_limit":
            return await local.forget_limit(name)
    raise KeyError(verb)
