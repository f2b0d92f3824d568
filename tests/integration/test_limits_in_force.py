"""Limits beyond the configured ones, from the operator's word to the store's slots and over restarts and reloads."""

import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from relay.core.errors import StoreFailed
from relay.core.model import PlatformRules, Quota, Rate, StoreRules
from relay.delivery.sender import Request
from relay.limits.estimator import Estimator
from relay.limits.evidence.history import Signal
from relay.limits.known import LearnTerms, Mode
from relay.limits.learner import Learner
from relay.wire.answers.answer import Answer, Headers
from tests.e2e.harness import until
from tests.integration.test_pipeline import TERMS, Rig

SINGLES = replace(TERMS, max_items=1, concurrency=1)
THREE = Rate(3, 60.0)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A rig that stops in the end."""
    made = Rig()
    yield made
    await made.registry.stop(1.0)


async def quotas(rig: Rig) -> dict[str, tuple[int, int]]:
    """Return the limit and what is used of it, by quota in force."""
    status = await rig.store.platform_status()
    return {quota.quota: (quota.limit, quota.used) for quota in status["shop-a"].quotas}


async def test_an_operators_limit_holds_at_once_over_what_was_sent(rig: Rig) -> None:
    """Five went out; with 3/min set, nothing more does until it is forgotten, and then everything."""
    await rig.start(SINGLES)
    await rig.post(*range(5))
    await rig.settled(5)
    await rig.registry.limit("shop-a", [THREE], until=None, reason="sale")

    async def holds() -> bool:
        return "operator:shop-a" in await quotas(rig)

    await until(holds, timeout_s=40, what="the limit in force")
    assert await quotas(rig) == {"operator:shop-a": (3, 5)}
    await rig.post(*range(5, 10))
    view = rig.registry.views()["shop-a"].learned_limit
    assert (view.source, view.rates[0].text, view.reason) == ("operator", "3/min", "sale")
    assert (await rig.totals()).pending == 5
    await rig.registry.forget_limit("shop-a")
    await rig.settled(10)
    assert await quotas(rig) == {}


async def test_an_operators_limit_ends_by_itself(rig: Rig) -> None:
    """A pipeline that waits a minute for a slot wakes when the limit ends, and sends."""
    await rig.start(SINGLES)
    await rig.registry.limit("shop-a", [Rate(1, 60.0)], until=rig.store.clock.now() + 0.3, reason="")
    await rig.post(*range(4))
    await rig.settled(4)
    assert len(rig.platform.requests) == 4
    assert rig.registry.views()["shop-a"].learned_limit.source == "none"


async def test_a_restart_and_a_reload_keep_the_operators_limit(rig: Rig) -> None:
    """It is in the store's gate before the call returns; other terms carry it over, another destination does not."""
    await rig.start(SINGLES)
    await rig.registry.limit("shop-a", [THREE], until=None, reason="sale")
    await rig.registry.stop(1.0)
    await rig.store.configure(StoreRules(platforms={"shop-a": PlatformRules()}))
    await rig.registry.start([SINGLES])

    async def holds() -> bool:
        return await quotas(rig) == {"operator:shop-a": (3, 0)}

    await until(holds, timeout_s=40, what="the limit in force")
    await rig.registry.replace([replace(SINGLES, max_items=2)], 1.0)
    assert rig.registry.views()["shop-a"].learned_limit.source == "operator"
    await rig.registry.replace([replace(SINGLES, url="http://other.invalid/")], 1.0)
    assert rig.registry.views()["shop-a"].learned_limit.source == "none"

    async def is_gone() -> bool:
        return await quotas(rig) == {}

    await until(is_gone, timeout_s=40, what="no limit in force")


async def test_a_stop_keeps_what_was_counted(rig: Rig) -> None:
    """What was learned is written when it changes; what speaks for it meanwhile, at the stop."""
    await rig.start(SINGLES)
    await rig.post(*range(5))
    await rig.settled(5)
    await rig.registry.stop(1.0)
    gate = (await rig.store.gates())["shop-a"]
    assert gate["learned"]["groups"][""]["accepted"] == 5


async def test_a_pause_keeps_what_was_learned(rig: Rig) -> None:
    """Pausing and resuming write the whole gate: the limit is still there after a restart."""
    await rig.start(SINGLES)
    await rig.registry.limit("shop-a", [THREE], until=None, reason="")
    await rig.registry.pause("shop-a", "look", until=None)
    await rig.registry.resume("shop-a")
    gate = (await rig.store.gates())["shop-a"]
    assert gate["learned"]["operator"]["rates"] == [[3, 60.0]]


async def test_a_store_that_fails_puts_the_limit_in_force_later(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent under a limit the store has not taken; when it works again the limit holds."""
    await rig.start(SINGLES)
    set_quotas = rig.store.set_quotas
    failures = [StoreFailed("disk")] * 2

    async def failing(platform: str, quotas: Sequence[Quota]) -> None:
        if failures:
            raise failures.pop()
        await set_quotas(platform, quotas)

    monkeypatch.setattr(rig.store, "set_quotas", failing)
    await rig.registry.limit("shop-a", [Rate(1, 60.0)], until=None, reason="")
    await rig.post(*range(3))
    await rig.settled(1)
    assert not failures
    assert len(rig.platform.requests) == 1


async def test_a_limit_that_could_not_be_kept_is_kept_with_the_next_answer(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator is told that the store failed; the limit holds all the same, and a restart finds it later."""
    await rig.start(SINGLES)
    keep = rig.store.set_gate

    async def failing(platform: str, gate: dict[str, object]) -> None:
        raise StoreFailed("disk")

    monkeypatch.setattr(rig.store, "set_gate", failing)
    with pytest.raises(StoreFailed):
        await rig.registry.limit("shop-a", [Rate(100, 60.0)], until=None, reason="sale")
    monkeypatch.setattr(rig.store, "set_gate", keep)
    await rig.post(1)
    await rig.settled(1)
    assert (await rig.store.gates())["shop-a"]["learned"]["operator"]["reason"] == "sale"


async def test_a_callback_that_always_draws_a_429_is_no_evidence_once_convicted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPEC 6: from its third strike on what it draws is charged to it, and says nothing about a limit."""
    refused, told = 0, []
    answered = Learner.answered

    def noted(self: Learner, *arguments: Any, kind: Signal, **words: Any) -> None:
        told.append(kind)
        answered(self, *arguments, kind=kind, **words)

    monkeypatch.setattr(Learner, "answered", noted)

    async def script(_request: Request, items: list[dict[str, object]]) -> Answer:
        nonlocal refused
        poison = items[0]["n"] == 13
        refused += poison
        return Answer(429 if poison else 200, Headers(), b"")

    rig.platform.script = script
    await rig.start(SINGLES)
    await rig.post(13, keyed=False)
    numbers = itertools.count(14)

    async def is_dead() -> bool:
        await rig.post(next(numbers), keyed=False)  # others are accepted beside it: only so it can be convicted
        return bool((await rig.totals()).dead)

    await until(is_dead, timeout_s=30, what="the callback that draws it given up")
    assert 0 < told.count(Signal.THROTTLED) < refused


async def test_an_unreadable_estimate_is_reported_and_learned_anew(rig: Rig) -> None:
    """A spoiled row of the store does not keep the platform from being served."""
    await rig.store.set_gate("shop-a", {"learned": {"destination": "platform.invalid", "declared": [["x", 1]]}})
    await rig.start(SINGLES)
    await rig.post(1)
    await rig.settled(1)
    assert b'"limit_not_kept"' in rig.log.getvalue()


async def test_one_request_at_a_time_is_under_way_with_care(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the estimator of any group asks for holds for the platform: it is asked whenever there may be room."""
    await rig.start(replace(SINGLES, concurrency=4))
    await rig.post(*range(20))
    await rig.settled(20)
    assert rig.registry.views()["shop-a"].allowed > 1
    monkeypatch.setattr(Estimator, "careful", lambda self, now: True)
    assert rig.registry.views()["shop-a"].allowed == 1


async def test_a_bug_in_the_estimator_costs_no_delivery(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported as the bug it is; the callback is delivered once, and an operator's limit stays."""
    await rig.start(SINGLES)
    await rig.registry.limit("shop-a", [Rate(100, 60.0)], until=None, reason="")

    def broken(*arguments: object, **words: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Learner, "answered", broken)
    await rig.post(1)
    assert (await rig.settled(1)).delivered == 1
    assert len(rig.platform.requests) == 1

    async def is_reported() -> bool:
        return b'"pipeline_failed"' in rig.log.getvalue()

    await until(is_reported, timeout_s=40, what="the bug reported")
    assert rig.registry.views()["shop-a"].learned_limit.source == "operator"


async def test_without_learning_there_is_nothing_to_show(rig: Rig) -> None:
    """``learn_limit: false`` shows no learned limit, until an operator sets one."""
    await rig.start(replace(SINGLES, learn=LearnTerms(Mode.OFF)))
    assert rig.registry.views()["shop-a"].learned_limit is None
    await rig.registry.limit("shop-a", [THREE], until=None, reason="")
    assert rig.registry.views()["shop-a"].learned_limit.source == "operator"
