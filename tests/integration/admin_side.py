"""An admin listener on a real socket over the memory store, for the tests of the API and of the command line."""

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from relay.admin.access import Access, User
from relay.admin.http.api import AdminApi, AdminParts
from relay.admin.http.server import AdminServer, AdminSettings
from relay.admin.resources.configuration import ConfigAccess
from relay.admin.reveals import RevealLimit
from relay.admin.standing.backlog import DrainTerms
from relay.config.schema.alerts import Language
from relay.core.errors import NoGroups
from relay.core.model import (
    Batch,
    ClaimRequest,
    Filter,
    Lane,
    NewCallback,
    Outcome,
    PlatformRules,
    Quota,
    Rate,
    State,
    StoreRules,
)
from relay.core.raw import Record
from relay.core.settlement import AttemptResult, Ending, Settlement
from relay.daemon.what_if_process import WhatIfProcess
from relay.ingest.described import ROUTES
from relay.policy.objective import Objective
from relay.privacy.views import Lenses
from relay.store.base import no_route
from relay.store.memory.backend import MemoryStore
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics
from relay.upkeep.in_time import Objectives
from relay.upkeep.operations import OperationRunner
from relay.upkeep.sampling import Sampling
from relay.views.alerts import AlertPage, AlertView, DrillView, LastSent, TargetView
from relay.views.configuration import InForce, PastReloadView, RefusedReloadView, ReloadView
from relay.views.live import LiveFacts
from relay.views.moments import Instant, read

START = 1_790_000_000.0
REVEALS = Rate(30, 3600.0)
USERS = [User(role, role, f"{role}-token") for role in ("stats", "viewer", "operator", "privacy", "admin")]

LEARNED: dict[str, Any] = {
    "mode": "enforce",
    "source": "learned",
    "rates": [{"limit": 100, "window_s": 60.0, "text": "100/min"}],
    "enforced": True,
    "trying": None,
    "family": "sliding",
    "confidence": 0.86,
    "evidence": {
        "sentence": "refused 4 times after 100 requests; a window of 58.9 s was refused, one of 60 s holds",
        "accepted": 812,
        "refused": 9,
        "closures": 4,
        "next_try_at": START + 1200,
    },
    "since": START - 720,
    "until": None,
    "reason": "",
    "after": None,
    "yaml": "rate: 100/min",
    "group": "",
    "groups": 0,
}
"""What delivery tells of a limit it found; times on the relay clock."""


@dataclass
class FakeClock:
    """Time that stands until it is moved."""

    at: float = START

    def now(self) -> float:
        return self.at


@dataclass
class FakeControl:
    """Delivery's live facts as a test sets them, and what was asked of it."""

    facts: dict[str, dict[str, Any]] = field(default_factory=lambda: {"shop-a": {}, "shop-b": {}})
    asked: list[tuple[str, ...]] = field(default_factory=list)
    backing_off: int = 0  # callbacks that wait for their retry time
    wall_ahead_s: float = 0.0  # what the wall clock was set forward since the start
    keep: Callable[[Record], Awaitable[None]] = field(init=False)  # commits an audit record, as the gate's with it
    gone: bool = False  # a reload took the platforms away between the look and the deed

    def views(self) -> Mapping[str, LiveFacts]:
        return {name: read(LiveFacts, facts) for name, facts in self.facts.items()}

    def _ask(self, *asked: str) -> None:
        self.asked.append(asked)
        if self.gone:
            raise KeyError(asked[1])

    async def pause(self, name: str, reason: str, *, until: float | None, deed: Record) -> None:
        await self.keep(deed)
        self._ask("pause", name, reason, *([] if until is None else [until]))
        self.facts[name] = {"paused": True, "pause_reason": reason, "paused_until": until}

    async def resume(self, name: str) -> int:
        self._ask("resume", name)
        self.facts[name] = {}
        return self.backing_off

    async def flush(self, name: str, group: str | None = None) -> None:
        self._ask("flush", name, *([] if group is None else [group]))

    async def pause_group(self, name: str, group: str, reason: str, *, until: float | None, deed: Record) -> None:
        await self._order(deed, "pause_group", name, group, reason, *([] if until is None else [until]))

    async def resume_group(self, name: str, group: str, *, deed: Record) -> None:
        await self._order(deed, "resume_group", name, group)

    async def limit_group(
        self, name: str, group: str, rates: Sequence[Rate], *, until: float | None, reason: str, deed: Record
    ) -> None:
        await self._order(deed, "limit_group", name, group, *map(str, rates), str(until), reason)

    async def _order(self, deed: Record, *asked: str) -> None:
        if asked[1] == "shop-b":
            raise NoGroups("shop-b has no groups: its configuration has no `group`")
        await self.keep(deed)
        self._ask(*asked)

    async def limit(self, name: str, rates: Sequence[Rate], *, until: float | None, reason: str) -> None:
        self._ask("limit", name, *map(str, rates), str(until), reason)
        listed = [{"limit": rate.limit, "window_s": rate.window_s, "text": str(rate)} for rate in rates]
        after = {key: LEARNED[key] for key in ("source", "rates", "confidence")}
        told = {"source": "operator", "rates": listed, "confidence": None, "since": None, "until": until}
        told |= {"reason": reason, "after": after}
        self.facts[name] = {"learned_limit": {**LEARNED, **told}}

    async def forget_limit(self, name: str) -> None:
        self._ask("forget_limit", name)
        self.facts[name] = {"learned_limit": {**LEARNED, "source": "none", "rates": [], "yaml": ""}}


@dataclass
class FakeConfig:
    """A configuration that is valid when it says so."""

    reloads: list[tuple[bool, bool, str]] = field(default_factory=list)
    past: list[PastReloadView] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=lambda: {"changes": [], "added": [], "removed": {}})
    effective: InForce = field(default_factory=lambda: InForce(file="config.yaml", config={"version": 1}, origins={}))
    refused: RefusedReloadView | None = None

    async def validate(self, text: str | None) -> Sequence[str]:
        return [] if text is None or "version: 1" in text else ["config.yaml:1:1: E008 the format version is missing"]

    async def reload(self, dry_run: bool, force: bool, by: str) -> ReloadView:
        self.reloads.append((dry_run, force, by))
        applied = not dry_run and not self.problems
        return ReloadView(applied=applied, **self.changes, problems=self.problems)

    def access(self) -> ConfigAccess:
        return ConfigAccess(
            effective=lambda: self.effective,
            refused=lambda: self.refused,
            reloads=lambda: self.past,
            validate=self.validate,
            reload=self.reload,
        )


class FakeAlarms:
    """Alerts of a relay that is well, with one target that takes messages and one that does not."""

    def __init__(self) -> None:
        self.silences: list[tuple[str, float, str, str]] = []

    def page(self, language: Language = "en") -> AlertPage:
        late, held = (
            AlertView(
                rule=rule,
                status="resolved" if ended else "firing",
                platform="shop-a",
                group=None,
                since=Instant(START - 600),
                until=Instant(START - 300) if ended else None,
                told_at=Instant(START - 590),
                silenced_until=None,
                summary=f"a is {rule}" if language == "en" else f"a 的 {rule}",
                meaning="it means",
                todo="relay status",
            )
            for rule, ended in (("late", False), ("held", True))
        )
        well = LastSent(result="ok", at=Instant(START - 590), reason="")
        deaf = LastSent(result="failed", at=Instant(START - 500), reason="timeout")
        targets = [
            TargetView(name="ops", kind="dingtalk", waiting=0, last=well),
            TargetView(name="deaf", kind="webhook", waiting=3, last=deaf),
        ]
        return AlertPage([late, held], targets)

    async def silence(self, rule: str, until: float, reason: str, by: str) -> None:
        self.silences.append((rule, until, reason, by))

    async def drill(self, target: str) -> DrillView:
        if target == "ops":
            return DrillView(target=target, arrived=True, status=200, reason="ok", answer="")
        answer = '{"errcode":310000,"errmsg":"sign not match"}'
        return DrillView(target=target, arrived=False, status=200, reason="errcode=310000", answer=answer)


class FakeReconciler:
    """Answers for the comparisons of a platform ``shop-a``."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] | None = None

    async def ask(self, platform: str, question: dict[str, Any]) -> dict[str, Any]:
        """Return what was asked as the platform's answer."""
        if platform != "shop-a":
            raise KeyError(platform)
        return {"outcome": "ok", "status": 200, "rows": [list(question.values())]}

    async def start(self, platform: str) -> dict[str, Any]:
        """Return a run under way."""
        if platform != "shop-a":
            raise KeyError(platform)
        return {"run": "20261129T024000000Z", "platform": platform, "state": "running"}

    async def listed(self, platform: str | None) -> list[dict[str, Any]]:
        """Return no run."""
        return []

    async def one(self, name: str) -> dict[str, Any] | None:
        """Return the run that is kept, whatever it is called."""
        return self.kept


@dataclass
class AdminSide:
    """What a test holds of a running admin listener."""

    url: str
    store: MemoryStore
    clock: FakeClock
    control: FakeControl
    config: FakeConfig
    operations: OperationRunner
    api: AdminApi
    rules: StoreRules
    sampling: Sampling
    metrics: Metrics
    alarms: FakeAlarms
    access: Access
    reveals: RevealLimit
    reconciler: FakeReconciler

    @property
    def records(self) -> list[dict[str, Any]]:
        """The audit records, oldest first."""
        return [json.loads(link.text) for link, _ in self.store._trail.links]

    async def sent(self, count: int, *, platform: str = "shop-a") -> None:
        """Claim ``count`` requests of one callback each and leave them under way."""
        for turn in range(count):
            batch = await self.store.claim(ClaimRequest(platform, None, 1, 1 << 20, 2, 1, 0.0, turn, True))
            assert isinstance(batch, Batch), batch

    async def reject(self, *, platform: str = "shop-a", reason: str = "") -> None:
        """Let the platform refuse the next callback: it is dead after one attempt."""
        batch = await self.store.claim(ClaimRequest(platform, None, 1, 1 << 20, 2, 1, 0.0, 0, True))
        assert isinstance(batch, Batch), batch
        result = AttemptResult(Outcome.REJECT, self.clock.at, 0.1, status=400, reason=reason)
        ending = Ending([item.seq for item in batch.items], State.DEAD, "rejected")
        settlement = Settlement(batch.number, batch.attempt_id, platform, result, endings=[ending])
        await self.store.settle(settlement)

    async def hold(self, *, platform: str = "shop-a") -> None:
        """Let the platform answer the next callback with what nobody recognises: it is held."""
        batch = await self.store.claim(ClaimRequest(platform, None, 1, 1 << 20, 2, 1, 0.0, 0, True))
        assert isinstance(batch, Batch), batch
        result = AttemptResult(Outcome.CONFIRM, self.clock.at, 0.1, status=200, reason="200 OK, no rule matched")
        held = [item.seq for item in batch.items]
        await self.store.settle(Settlement(batch.number, batch.attempt_id, platform, result, held=held))

    async def limited(self, name: str, rate: Rate, *, platform: str = "shop-a") -> None:
        """Put a limit in force that no configuration holds, as delivery does."""
        rules = self.rules.platforms
        mine = rules[platform]
        self.rules = StoreRules(
            quotas={**self.rules.quotas, name: Quota(name, (rate,))},
            platforms={**rules, platform: replace(mine, quotas=(*mine.quotas, name))},
        )
        await self.store.configure(self.rules)

    async def accept(self, count: int = 1, *, platform: str = "shop-a", **fields: Any) -> list[str]:
        """Accept callbacks and return their ids."""
        rows = [
            NewCallback(
                **{
                    "platform": platform,
                    "payload": b'{"order_id":"A-991","phone":"13812345678"}',
                    "key": None,
                    "event": "order.paid",
                    "lane": Lane.NORMAL,
                    "expires_s": 86400.0,
                    "idempotency_key": None,
                    "content_type": None,
                    "traceparent": None,
                    "group": "",
                    **fields,
                }
            )
            for _ in range(count)
        ]
        return (await self.store.accept(rows)).ids

    async def bury(self, ids: Sequence[str]) -> None:
        """Make dead letters of pending callbacks."""
        wanted = Filter(ids=tuple(ids))
        started = await self.store.start_operation("drop", wanted, expect_count=len(ids))
        await self.store.step_operation(started.id, len(ids))


@contextlib.asynccontextmanager
async def admin_side(
    *,
    users: Sequence[User] = (),
    listen: str = "127.0.0.1:0",
    reloads: bool = True,
    lenses: Lenses | None = None,
    reveals: Rate = REVEALS,
) -> AsyncIterator[AdminSide]:
    """Serve an admin listener until the block ends."""
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    rules = StoreRules(
        quotas={"shop-a": Quota("shop-a", (Rate(100, 60.0),))},
        platforms={"shop-a": PlatformRules(quotas=("shop-a",)), "shop-b": PlatformRules()},
    )
    await store.configure(rules)
    metrics = Metrics()
    events = Events(log=structlog.wrap_logger(structlog.ReturnLogger()), metrics=metrics)
    control, config, alarms, reconciler = FakeControl(), FakeConfig(), FakeAlarms(), FakeReconciler()
    control.keep = lambda deed: store.audit(deed)
    operations = OperationRunner(ledger=store, clock=clock, events=events, reroute=no_route)
    wanted = {"shop-a": Objective(within_s=90.0, share=0.99)}
    objectives = Objectives(wanted=lambda: wanted, history=store.history)
    sampling = Sampling(
        history=store.history, counted=metrics.request_counts, objectives=objectives, clock=clock, events=events
    )
    access, who = config.access(), Access(users)

    def wall() -> float:
        return clock.now() + control.wall_ahead_s

    limit = RevealLimit(journal=store.journal, clock=clock, wall=wall, rate=lambda: reveals)
    api = AdminApi(
        AdminParts(
            ledger=store,
            hosts=None,
            history=store.history,
            surveys=store.surveys,
            held_keys=store.held_keys,
            journal=store.journal,
            sealing=store.sealing,
            samples=sampling,
            control=control,
            ingest=ROUTES,
            access=who,
            lenses=lenses or Lenses((), {}),
            reveals=limit,
            config=access if reloads else replace(access, reload=None),
            events=events,
            metrics=metrics,
            objective=objectives.standing,
            terms=lambda: {"shop-a": DrainTerms(10, 86400.0)},
            wall=wall,
            alerts=alarms,
            reconciler=reconciler,
            operation_started=operations.nudge,
            work_out=WhatIfProcess().work_out,
        )
    )
    server = AdminServer(settings=AdminSettings(listen=listen), api=api, ping=store.ping, events=events)
    await server.start()
    try:
        url = server.address if server.address.startswith("unix:") else f"http://{server.address}"
        yield AdminSide(
            url,
            store,
            clock,
            control,
            config,
            operations,
            api,
            rules,
            sampling,
            metrics,
            alarms,
            who,
            limit,
            reconciler,
        )
    finally:
        await server.close(0.1)
    assert not metrics.refused["admin", "internal"]
