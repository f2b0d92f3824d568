"""Slots for others on any host: the owner of the limits hands them out, whoever is asked."""

from typing import Any

import pytest
from relay.core.errors import Fenced, StoreFailed
from relay.core.lending import LentSlots, LimitName, SlotWish
from relay.core.model import UNROUTED, Quota, Rate, StoreRules, WaitUntil
from relay.hosts.errands import Errands
from relay.hosts.rules.topology import digest_of
from relay.hosts.shared_desk import SharedDesk, hand_out
from relay.ingest.lending.desk import LimitDirectory, SlotDesk
from relay.store.memory.backend import MemoryStore
from tests.clocks import FakeClock
from tests.hosts.test_errands import Channels
from tests.store.harness import rules

_SHOP = LimitName("shop", "")
_KNOWN = LimitDirectory({"app": ["shop"], "pull": []}, frozenset({"shop"}))


class Untold:
    """Deliveries that are told of the requests of others."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def stopped_until(self, platform: str, group: str) -> float:
        return 0.0

    def accepted(self, platform: str, group: str, count: int) -> None:
        self.told.append((platform, count))

    async def refused(self, platform: str, group: str, wait_s: float | None) -> None:
        self.told.append((platform, "refused", wait_s))


class Host:
    """One host: a desk over the limits that all of them share, used by whoever owns them."""

    def __init__(self, name: str, channels: Channels, store: MemoryStore) -> None:
        self.owned: set[str] = set()
        self.deliveries = Untold()
        self._store = store
        self.desk = SlotDesk(self, self.deliveries, clock=store.clock, directory=lambda: _KNOWN)

        async def do(platform: str, verb: str, words: Any) -> Any:
            return await hand_out(self.desk, verb, words)

        errands = Errands(name, channels, prefix="t", owns=self.owned.__contains__, do=do)
        channels.heard.setdefault(errands.asks, []).append(errands.heard_question)
        channels.heard.setdefault(errands.answers, []).append(errands.heard_answer)
        self.shared = SharedDesk(self.desk, errands, owns=self.owned.__contains__, clock=store.clock)

    def _lending(self) -> Any:
        if not self.owned:
            raise Fenced("not mine")
        return self._store.lending

    async def lend(self, wish: SlotWish) -> LentSlots | WaitUntil:
        return await self._lending().lend(wish)

    async def give_back(self, of: LimitName, ids: list[str], *, unused: bool) -> list[LimitName]:
        return await self._lending().give_back(of, ids, unused=unused)

    async def note_sent(self, of: LimitName, count: int) -> bool:
        return await self._lending().note_sent(of, count)


Two = tuple[Host, Host]


@pytest.fixture
async def hosts() -> Two:
    """Two hosts; the first owns everything."""
    store = MemoryStore(clock=FakeClock())
    await store.configure(rules(rate=Rate(2, 60.0), shared=Rate(5, 60.0)))
    channels = Channels()
    owner, other = Host("a", channels, store), Host("b", channels, store)
    owner.owned |= {"shop", UNROUTED}
    return owner, other


def _there() -> bool:
    return False


async def test_the_owner_hands_out(hosts: Two) -> None:
    """Both hosts take of one limit; what is given back on the other host counts and is told to the learner."""
    owner, other = hosts
    first = await other.shared.take(_SHOP, 1, 0.0, gone=_there)
    assert isinstance(first, LentSlots)
    second = await owner.shared.take(_SHOP, 1, 0.0, gone=_there)
    assert isinstance(second, LentSlots)
    none = await other.shared.take(_SHOP, 1, 0.0, gone=_there)
    assert isinstance(none, WaitUntil)
    assert none.reason == "limit"
    assert await other.shared.release(_SHOP, first.ids, unused=False) == 1
    assert await other.shared.release(_SHOP, second.ids, unused=True) == 1
    assert owner.deliveries.told == [("shop", 1)]
    await other.shared.report(_SHOP, 1, refused=True, wait_s=3.0)
    assert owner.deliveries.told[1:] == [("shop", 0), ("shop", "refused", 3.0)]
    never = await other.shared.take(_SHOP, 9, 0.0, gone=_there)
    assert isinstance(never, WaitUntil)
    assert never.reason == "never"


async def test_a_wait_outlives_a_change_of_the_owner(hosts: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner loses the limits before it hands anything out: the question goes to the next owner."""
    monkeypatch.setattr("relay.hosts.errands._AGAIN_S", 0.01)
    owner, other = hosts
    lend = owner.lend

    async def hands_over(wish: SlotWish) -> LentSlots | WaitUntil:
        other.owned |= owner.owned
        owner.owned.clear()
        return await lend(wish)

    monkeypatch.setattr(owner, "lend", hands_over)
    assert isinstance(await owner.shared.take(_SHOP, 1, 1.0, gone=_there), LentSlots)


async def test_an_owner_that_lost_its_lease_answers_nothing(hosts: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was asked by another host: nothing was handed out, and whoever owns the limits when it is asked again does."""
    monkeypatch.setattr("relay.hosts.errands._AGAIN_S", 0.01)
    owner, other = hosts
    lend, refusals = owner.lend, [Fenced("lost"), Fenced("lost")]

    async def without_a_lease(wish: SlotWish) -> LentSlots | WaitUntil:
        if refusals:
            raise refusals.pop()
        return await lend(wish)

    monkeypatch.setattr(owner, "lend", without_a_lease)
    assert isinstance(await other.shared.take(_SHOP, 1, 0.0, gone=_there), LentSlots)
    assert refusals == []


async def test_slots_for_nobody_are_given_back(hosts: Two) -> None:
    """Who asked is gone when the answer comes from the other host: its slots are free at once."""
    _, other = hosts
    gone = await other.shared.take(_SHOP, 2, 0.0, gone=lambda: True)
    assert isinstance(gone, WaitUntil)
    assert gone.reason == "closed"
    assert isinstance(await other.shared.take(_SHOP, 2, 0.0, gone=_there), LentSlots)


async def test_limits_of_nobody(hosts: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quota of no platform is handed out by the owner of the unrouted; where nobody owns anything, it fails."""
    monkeypatch.setattr("relay.hosts.errands._WITHIN_S", 0.05)
    owner, other = hosts
    unknown = await other.shared.take(LimitName("", "pull"), 1, 0.0, gone=_there)
    assert isinstance(unknown, WaitUntil)
    assert unknown.reason == "unknown"
    owner.owned.clear()
    with pytest.raises(StoreFailed):
        await other.shared.take(_SHOP, 1, 0.0, gone=_there)


def test_what_is_counted_must_be_the_same_on_all_hosts() -> None:
    """Another unit, a calendar window or a reserve makes another digest."""

    def digest(*rates: Rate, reserve: tuple[int, ...] = ()) -> str:
        return digest_of(StoreRules(quotas={"app": Quota("app", rates, reserve=reserve)}), {})

    plain, items = Rate(5, 60.0), Rate(5, 60.0, "items")
    assert len({digest(plain), digest(items), digest(plain, reserve=(1,))}) == 3
