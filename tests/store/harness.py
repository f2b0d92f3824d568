"""What the conformance suite needs of a backend, and short words for what it does to one."""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from relay.core.model import (
    UNROUTED,
    Accepted,
    Batch,
    ClaimRequest,
    Filter,
    Lane,
    NewCallback,
    Outcome,
    PlatformRules,
    Quota,
    Rate,
    RoutedPost,
    State,
    StoreRules,
    WaitUntil,
)
from relay.core.settlement import AttemptResult, Ending, Requeue, Resend, Settlement
from relay.store.base import Reroute, Store, no_route
from relay.views.callback_view import CallbackView
from relay.views.ledger import QueueTotals
from relay.views.operation_view import OperationOptions, OperationView
from tests.clocks import FakeClock


class Harness(Protocol):
    """One backend under test. The fixture that makes it closes what it opened."""

    clock: FakeClock

    async def open(self, rules: StoreRules) -> Store:
        """Open the store, empty the first time, and configure it."""
        ...


class RestartHarness(Harness, Protocol):
    """A backend that outlives its process."""

    async def reopen(self, rules: StoreRules) -> Store:
        """Let the open store vanish as by kill -9, open its data again and configure it."""
        ...


def rules(
    *platforms: str,
    rate: Rate | None = None,
    burst: int | None = None,
    shared: Rate | None = None,
    per_group: bool = False,
    **keep: float,
) -> StoreRules:
    """Rules for plain platforms (default ``shop``), each with a private ``rate`` and all under one ``shared``."""
    names = platforms or ("shop",)
    quotas: dict[str, Quota] = {}
    if shared is not None:
        quotas["app"] = Quota("app", (shared,))
    if rate is not None:
        quotas |= {name: Quota(name, (rate,), burst, per_group) for name in names}
    return StoreRules(
        quotas=quotas,
        platforms={
            name: PlatformRules(quotas=tuple(quota for quota in (name, "app") if quota in quotas)) for name in names
        },
        **keep,
    )


def special(*, coalesce: bool = False, block_on_dead: bool = False) -> StoreRules:
    """Rules of one platform ``shop`` without limits, with queueing rules of its own."""
    return StoreRules(platforms={"shop": PlatformRules(coalesce=coalesce, block_on_dead=block_on_dead)})


def note(
    payload: bytes = b"{}",
    *,
    key: str | None = None,
    platform: str = "shop",
    event: str | None = None,
    lane: Lane = Lane.NORMAL,
    expires_s: float = 86400.0,
    idempotency_key: str | None = None,
    group: str = "",
    dead_reason: str | None = None,
) -> NewCallback:
    """One callback to accept."""
    return NewCallback(
        platform, payload, key, event, lane, expires_s, idempotency_key, None, None, group, dead_reason=dead_reason
    )


def request(
    platform: str = "shop",
    *,
    max_items: int = 100,
    max_bytes: int = 1 << 20,
    frame_bytes: int = 2,
    item_bytes: int = 1,
    linger_s: float = 0.0,
    turn: int = 0,
    probe: bool = False,
    group: str = "",
) -> ClaimRequest:
    """What a platform would send."""
    return ClaimRequest(platform, group, max_items, max_bytes, frame_bytes, item_bytes, linger_s, turn, probe)


async def post(store: Store, *rows: NewCallback) -> Accepted:
    """Accept rows in one request."""
    return await store.accept(rows)


def routed(
    *platforms: str,
    payload: bytes = b"{}",
    key: str | None = None,
    event: str | None = None,
    idempotency_key: str | None = None,
    dead_reason: str | None = None,
    row_key: str | None = None,
    expires_s: float = 86400.0,
) -> RoutedPost:
    """One routed post for these platforms."""
    rows = [
        note(payload, platform=platform, event=event, key=row_key or key, expires_s=expires_s) for platform in platforms
    ]
    return RoutedPost(rows, payload, key, event, idempotency_key, dead_reason)


def unrouted(payload: bytes = b"{}", **given: Any) -> RoutedPost:
    """One post that no route took, to be kept as dead."""
    return routed(UNROUTED, payload=payload, dead_reason="unrouted", **given)


async def claimed(store: Store, wanted: ClaimRequest | None = None) -> Batch:
    """Claim, expecting a batch."""
    got = await store.claim(wanted or request())
    assert isinstance(got, Batch), got
    return got


async def refused(store: Store, wanted: ClaimRequest | None = None) -> WaitUntil:
    """Claim, expecting to wait."""
    got = await store.claim(wanted or request())
    assert isinstance(got, WaitUntil), got
    return got


def payloads(batch: Batch) -> list[bytes]:
    """Return what a batch carries."""
    return [item.payload for item in batch.items]


def seqs(batch: Batch) -> list[int]:
    """Return the sequence numbers of a batch."""
    return [item.seq for item in batch.items]


def settlement(
    batch: Batch,
    clock: FakeClock,
    outcome: Outcome = Outcome.OK,
    *,
    ambiguous: bool = False,
    status: int | None = None,
    reason: str = "",
    **parts: Any,
) -> Settlement:
    """Settle a batch by ``parts``."""
    result = AttemptResult(outcome, clock.now(), 0.0, status, reason, ambiguous=ambiguous)
    return Settlement(batch.number, batch.attempt_id, batch.platform, result, **parts)


async def deliver(store: Store, batch: Batch, clock: FakeClock) -> None:
    """Settle a batch as delivered."""
    await store.settle(settlement(batch, clock, delivered=seqs(batch)))


async def bury(store: Store, batch: Batch, clock: FakeClock, reason: str = "rejected") -> None:
    """Settle a batch as dead."""
    ending = Ending(seqs(batch), State.DEAD, reason)
    await store.settle(settlement(batch, clock, Outcome.REJECT, endings=[ending]))


async def requeue(store: Store, batch: Batch, clock: FakeClock, *, after_s: float, charge: bool = True) -> None:
    """Return a batch's items to their places."""
    again = Requeue(seqs(batch), clock.now() + after_s, charge, "throttled")
    await store.settle(settlement(batch, clock, Outcome.THROTTLED, requeue=[again]))


async def resend(store: Store, batch: Batch, clock: FakeClock, *, after_s: float) -> None:
    """Keep a batch frozen after an answer that leaves it open what was applied."""
    again = Resend(clock.now() + after_s, True, "timeout")
    await store.settle(settlement(batch, clock, Outcome.RETRY, ambiguous=True, resend=again))


async def hold(store: Store, batch: Batch, clock: FakeClock) -> None:
    """Hold a batch's items for a person."""
    await store.settle(settlement(batch, clock, Outcome.CONFIRM, held=seqs(batch)))


async def shown(store: Store, callback_id: str, *, payload: bool = False) -> CallbackView:
    """Return a callback that must be there."""
    found = await store.callback(callback_id, payload=payload)
    assert found is not None, callback_id
    return found


async def states(store: Store, ids: Sequence[str]) -> list[str]:
    """Return the states of callbacks."""
    return [(await shown(store, callback_id)).state for callback_id in ids]


async def operate(
    store: Store, action: str, wanted: Filter | None = None, *, reroute: Reroute = no_route, **options: Any
) -> OperationView:
    """Run an operation to its end and return its progress."""
    progress = await store.start_operation(
        action, wanted or Filter(), options=OperationOptions(**options), expect_count=None
    )
    while progress.state == "running":
        progress = (await store.step_operation(progress.id, 2, reroute)).progress
    return progress


async def balanced(store: Store) -> dict[str, QueueTotals]:
    """Return the totals after checking that they account for everything (I14)."""
    totals = await store.totals()
    assert {platform: found for platform, found in totals.items() if found.unaccounted} == {}
    return totals


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that follows a commit on the loop."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


NEVER = math.inf
