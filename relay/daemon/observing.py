"""Takes the snapshot that the alert rules look at. What does not answer in time is unknown in it, never made up."""

import asyncio
import math
import os
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from relay.admin.standing.backlog import ledger_view, platform_view
from relay.admin.standing.drain import DrainTerms
from relay.alerts.facts import PlatformFacts, ReconcileFacts, RelayFacts
from relay.config.schema.file import Config
from relay.core.clock import elapsed_s, wall_s, wall_shift_s
from relay.core.errors import StoreError
from relay.store.base import Ledger
from relay.telemetry.metrics import Metrics
from relay.views.live import NOTHING_KNOWN, LiveFacts
from relay.views.past.objective import ObjectiveView
from relay.views.queue import QueueFacts, StoreSize

_T = TypeVar("_T")
_PATIENCE_S: Final = 5.0  # a store that answers later does not answer
_MINUTE_S: Final = 60.0  # what "nothing was delivered in the last minute" needs to have seen
_GROWTH_LOOKS: Final = 60  # ten minutes of them: long enough that one burst does not fill the store tomorrow
_CERTIFICATES_EVERY_S: Final = 3600.0


class Observer:
    """Reads store, delivery, configuration, disk and clocks. ``config()`` is the one in force.

    ``watches(platform)`` says whether this host tells of a platform: of several hosts only the one that sends for it.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        live: Callable[[], Mapping[str, LiveFacts]],
        terms: Callable[[], Mapping[str, DrainTerms]],
        refused_problems: Callable[[], int],
        reveals_refused: Callable[[], tuple[str, ...]],
        reconciled: Callable[[], Mapping[str, ReconcileFacts]],
        config: Callable[[], Config],
        objective: Callable[[str], ObjectiveView | None],
        metrics: Metrics,
        watches: Callable[[str], bool],
        hosts_troubled: Callable[[], Mapping[str, str]],
    ) -> None:
        self._ledger = ledger
        self._live = live
        self._terms = terms
        self._refused_problems = refused_problems
        self._reveals_refused = reveals_refused
        self._reconciled = reconciled
        self._config = config
        self._objective = objective
        self._metrics = metrics
        self._watches = watches
        self._hosts_troubled = hosts_troubled
        self._began_s = elapsed_s()
        self._dead: Counter[tuple[str, str]] = Counter()
        self._used: deque[tuple[float, int]] = deque(maxlen=_GROWTH_LOOKS)
        self._certificates_at = -math.inf

    async def observe(self) -> RelayFacts:
        """Return the relay as it is now."""
        ledger = self._ledger
        committed = await _in_time(_done(ledger.ping))
        statuses = await _in_time(ledger.platform_status)
        totals = await _in_time(ledger.totals)
        size = await _in_time(ledger.size)
        config = self._config()
        return RelayFacts(
            platforms=None if statuses is None else self._platforms(statuses),
            store_failed=committed is None,
            store_damage=self._metrics.store_damage[()],
            used_percent=_percent(size),
            full_in_s=None if size is None else self._full_in_s(size),
            disk_free_bytes=await asyncio.to_thread(_free_bytes, config.store_path.parent),
            unaccounted=None if totals is None or size is None else ledger_view(totals, size).total.unaccounted,
            refused_problems=self._refused_problems(),
            clock_step_s=wall_shift_s(ledger.clock.now(), wall_s()),
            reveals_refused=self._reveals_refused(),
            reconciled=self._reconciled(),
            tokens_lacking=tuple(sorted(self._metrics.tokens_lacking)),
            hosts_troubled=self._hosts_troubled(),
            acceptors_lacking=self._metrics.acceptors_lacking() != "",
            certificates=await self._certificates(config),
        )

    def _platforms(self, statuses: Mapping[str, QueueFacts]) -> dict[str, PlatformFacts]:
        live, terms, now = self._live(), self._terms(), self._ledger.clock.now()
        died, died_of = self._died(), self._died_of()
        watched = elapsed_s() - self._began_s >= _MINUTE_S
        found = {}
        for name in dict.fromkeys((*live, *statuses)):
            if not self._watches(name):
                continue
            flow = self._metrics.flow(name)
            view = platform_view(
                name,
                queue=statuses.get(name, QueueFacts()),
                live=live.get(name, NOTHING_KNOWN),
                terms=terms.get(name),
                flow=flow,
                now=now,
            )
            limit = view.learned_limit
            unstated = limit is not None and limit.enforced and limit.source in ("learned", "declared")
            found[name] = PlatformFacts(
                state=view.state,
                pending=view.pending,
                held=view.held,
                unopened=self._metrics.unopened[name,],
                dead=view.dead,
                oldest_due_s=view.oldest_due_seconds or 0.0,
                out_per_s=flow.out_per_s if watched else None,
                drain_s=math.inf if view.growing else view.drain_eta_seconds,
                expires_s=view.expires_seconds,
                died=died.get(name, {}),
                died_of=died_of.get(name, {}),
                objective=self._objective(name),
                adopt=limit.yaml if limit is not None and unstated else "",
            )
        return found

    def _died(self) -> dict[str, dict[str, int]]:
        """Return per platform and reason how many callbacks were given up since the last look."""
        before, self._dead = self._dead, Counter(self._metrics.dead)
        died: dict[str, dict[str, int]] = {}
        for (platform, reason), count in (self._dead - before).items():
            died.setdefault(platform, {})[reason] = count
        return died

    def _died_of(self) -> dict[str, dict[str, dict[str, int]]]:
        """Return the same by whole reason: with the code that a rule met, where it met one."""
        lately, self._metrics.dead_lately = self._metrics.dead_lately, Counter()
        found: dict[str, dict[str, dict[str, int]]] = {}
        for (platform, word, reason), count in lately.items():
            found.setdefault(platform, {}).setdefault(word, {})[reason] = count
        return found

    def _full_in_s(self, size: StoreSize) -> float | None:
        now, used = elapsed_s(), size.used_bytes
        self._used.append((now, used))
        then, used_then = self._used[0]
        grown = used - used_then
        if grown <= 0 or now - then < _MINUTE_S:
            return None
        return max(0.0, (size.usable_bytes - used) * (now - then) / grown)

    async def _certificates(self, config: Config) -> dict[tuple[str, str], float]:
        """Return the seconds that each certificate has left; client certificates are read once an hour."""
        if elapsed_s() - self._certificates_at >= _CERTIFICATES_EVERY_S:
            self._certificates_at = elapsed_s()
            paths = {
                name: config.directory / platform.connect.cert
                for name, platform in config.platforms.items()
                if platform.connect.cert is not None
            }
            ends = await asyncio.to_thread(_ends, paths) if paths else {}
            for name, end in ends.items():
                self._metrics.certificates.setdefault(name, {})["client"] = end
        now = wall_s()
        known = self._metrics.certificates
        for name in known.keys() - config.platforms.keys():
            del known[name]
        return {(name, whose): end - now for name, found in known.items() for whose, end in found.items()}


async def _in_time(ask: Callable[[], Awaitable[_T]]) -> _T | None:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await ask()
    except (StoreError, TimeoutError):
        return None  # told by the store itself; here it is unknown


def _done(ask: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[bool]]:
    async def answer() -> bool:
        await ask()
        return True

    return answer


def _percent(size: StoreSize | None) -> float | None:
    if size is None or not size.usable_bytes:
        return None
    return 100.0 if size.full else 100.0 * size.used_bytes / size.usable_bytes


def _free_bytes(directory: Path) -> int | None:
    try:
        found = os.statvfs(directory)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def _ends(paths: Mapping[str, Path]) -> dict[str, float]:
    """Return when the certificates at ``paths`` end; one that cannot be read any more is left out."""
    from cryptography.x509 import load_pem_x509_certificate  # a second of the processor, and few need it

    found = {}
    for name, path in paths.items():
        try:
            found[name] = load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()
        except (OSError, ValueError):
            continue  # the configuration was checked with it; a reload will say what is wrong now
    return found
