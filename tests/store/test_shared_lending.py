"""Slots for others over a store that hosts share: only the owner hands them out, and the next owner counts them."""

from dataclasses import replace

import pytest
from relay.core.errors import Fenced, StoreAway
from relay.core.lending import LimitName
from relay.core.model import UNROUTED, Quota, Rate
from tests.store.harness import rules
from tests.store.lending import lacking, lent
from tests.store.several import Hosts

_SHOP = LimitName("shop", "")
_APP = LimitName("", "app")
_PULL = LimitName("", "pull")


async def test_the_next_owner_counts_what_was_lent(hosts: Hosts) -> None:
    """Slots of a platform and of a shared quota count at whoever owns them now; who lost them hands out none."""
    in_force = rules("mall", "shop", rate=Rate(3, 60.0), shared=Rate(4, 60.0))
    first = await hosts.owner(in_force, "mall", "shop")
    other = await hosts.open(in_force, alone=False)
    with pytest.raises(Fenced):
        await lent(other, of=_SHOP)
    (one,) = (await lent(first, of=_SHOP)).ids
    two = (await lent(first, 2, _APP)).ids
    await hosts.take(other, "mall", "shop", token="2.b")
    with pytest.raises(Fenced):
        await lent(first, of=_SHOP)
    with pytest.raises(Fenced):
        await first.lending.give_back(_SHOP, [one], unused=True)
    await lacking(other, 2, _APP)
    await lent(other, 1, _APP)
    await lacking(other, of=_SHOP)
    assert await other.lending.give_back(_APP, two, unused=True) == [_APP, _APP]
    await lent(other, 1, _SHOP)
    assert await other.lending.give_back(_SHOP, [one], unused=False) == [_SHOP]
    assert await other.lending.give_back(_SHOP, [one], unused=True) == []


async def test_a_quota_without_platforms_moves_too(hosts: Hosts) -> None:
    """It goes with the unrouted; who gets it back counts what the owner in between lent."""
    in_force = replace(rules(), quotas={"pull": Quota("pull", (Rate(2, 60.0),))})
    first, other = await hosts.owner(in_force, UNROUTED), await hosts.open(in_force, alone=False)
    await lent(first, of=_PULL)
    first.disown([UNROUTED])
    await hosts.take(other, UNROUTED, token="2.b")
    await lent(other, of=_PULL)
    await lacking(other, of=_PULL)
    other.disown([UNROUTED])
    await hosts.take(first, UNROUTED, token="3.a")
    await lacking(first, of=_PULL)


async def test_what_is_perhaps_recorded_stays_held(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is away while a slot is recorded: nobody gets it, and it is held until it cannot be used any more."""
    store = await hosts.owner(rules(rate=Rate(1, 60.0)), "shop")

    async def away(*_: object, **__: object) -> None:
        raise StoreAway("away")

    with monkeypatch.context() as patched:
        patched.setattr(store.link, "run", away)
        with pytest.raises(StoreAway):
            await lent(store)
    await lacking(store)


async def test_a_slot_that_was_refused_is_free(hosts: Hosts) -> None:
    """The lease is lost and not known to be: the server refuses, and the slot is not held for nothing."""
    store = await hosts.owner(rules(rate=Rate(1, 60.0)), "shop")
    await store.link.do("HSET", store.keys.of("shop", "lease"), "token", "2.b")
    with pytest.raises(Fenced):
        await lent(store)
    await store.link.do("HSET", store.keys.of("shop", "lease"), "token", "1.a")
    await lent(store)
