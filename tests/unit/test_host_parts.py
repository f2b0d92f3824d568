"""The parts of ownership by themselves: components, digest, rendezvous, the proof of an end, what a lease is worth."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from relay.core.model import PlatformRules, Quota, Rate, StoreRules
from relay.hosts.listing import live_elsewhere
from relay.hosts.rules.balance import in_line
from relay.hosts.rules.beat import Beat, Heard, Heart, Listed, Wanted, Wish
from relay.hosts.rules.book import LeaseBook
from relay.hosts.rules.component import components
from relay.hosts.rules.lease import Lease
from relay.hosts.rules.process import HIDDEN, Process, has_ended
from relay.hosts.rules.taking import Taking
from relay.hosts.rules.topology import Topology, digest_of, publishes
from relay.hosts.wiring import process_started
from relay.policy.takeover import silent_after_s
from relay.store.redis import last_writes
from relay.store.redis.last_writes import KEPT_S, LastWrites
from relay.store.redis.server.keys import KeyNames
from relay.views.live import LiveFacts
from relay.views.moments import plain

MINE = Process("boot-1", "pid:[4026531836]", 4711, 100)


def test_platforms_that_share_a_quota_are_one_component() -> None:
    """A quota links its platforms, also through a third one; who shares nothing stands alone."""
    quotas = {"shop-d": [], "shop-c": ["courier"], "shop-a": ["wechat"], "shop-b": ["wechat", "courier"]}

    assert components(quotas) == (("shop-a", "shop-b", "shop-c"), ("shop-d",))


def rules(*, limit: int = 10, shared: bool = True) -> StoreRules:
    """Return rules of two platforms that may share a quota."""
    quota = Quota("app", (Rate(limit, 60.0),))
    return StoreRules({"app": quota}, {"a": PlatformRules(("app",)), "b": PlatformRules(("app",) if shared else ())})


def test_the_digest_follows_quotas_rates_and_groups_and_nothing_else() -> None:
    """Another rate, another share of a quota or another group gives another digest; how long rows are kept does not."""
    base = digest_of(rules(), {"a": "shop_id"})

    assert digest_of(rules(), {"a": "shop_id"}) == base
    assert len({base, digest_of(rules(limit=11), {"a": "shop_id"}), digest_of(rules(shared=False), {"a": "shop_id"}),
                digest_of(rules(), {"a": None})}) == 4  # fmt: skip
    assert digest_of(StoreRules(rules().quotas, rules().platforms, keep_dead_s=1.0), {"a": "shop_id"}) == base


@pytest.mark.parametrize(
    ("held", "asked", "starting", "others", "everywhere", "published"),
    [
        ("", False, False, ["edge-2"], False, True),
        ("mine", True, True, [], True, False),
        ("other", False, False, [], False, False),
        ("other", True, False, ["edge-2"], False, True),
        ("other", False, True, ["edge-2"], False, False),
        ("other", False, True, [], False, True),
        ("other", False, False, ["edge-2"], True, True),
    ],
)
def test_a_file_is_published_at_a_reload_and_by_the_only_host_at_its_start(
    held: str, asked: bool, starting: bool, others: list[str], everywhere: bool, published: bool
) -> None:
    """Nothing is in force yet, a person asked, the starting host is alone, or all have it; else nothing changes."""
    topology = Topology(int(bool(held)), held)
    found = publishes(topology, mine="mine", asked=asked, starting=starting, others=others, everywhere=everywhere)
    assert found is published


def test_a_host_that_leaves_moves_only_what_it_had() -> None:
    """Of 300 components each of three hosts gets its share; without one of them the others keep all that they had."""
    names = [(f"shop-{number}",) for number in range(300)]
    before = {component: in_line(component, ("edge-1", "edge-2", "edge-3")) for component in names}
    after = {component: in_line(component, ("edge-1", "edge-3")) for component in names}

    assert all(70 < sum(line[0] == host for line in before.values()) < 130 for host in ("edge-1", "edge-2", "edge-3"))
    assert all(after[component] == [host for host in line if host != "edge-2"] for component, line in before.items())


@pytest.mark.parametrize(
    ("former", "started", "ended"),
    [
        (Process("boot-1", "pid:[4026531836]", 4000, 90), None, True),
        (Process("boot-1", "pid:[4026531836]", 4000, 90), 95, True),
        (Process("boot-1", "pid:[4026531836]", 4000, 90), 90, False),
        (Process("boot-1", "pid:[4026531836]", 4000, 90), HIDDEN, False),
        (Process("boot-2", "pid:[4026531836]", 4000, 90), None, False),
        (Process("boot-1", "pid:[4026532000]", 4000, 90), None, False),
        (MINE, None, False),
        (None, None, False),
    ],
)
def test_the_end_of_a_process_is_proved_on_the_same_boot_only(
    former: Process | None, started: int | None, ended: bool
) -> None:
    """No process with the number, or one that started at another time; another boot or namespace proves nothing."""
    assert has_ended(former, MINE, lambda _number: started) is ended


def test_a_process_is_read_back_from_what_the_store_holds() -> None:
    """What was written is read; what is no process is None, and so proves nothing."""
    assert Process.parse(str(MINE)) == MINE
    assert all(Process.parse(text) is None for text in ("", "a b c d", "boot ns 1", "boot ns 1 2 3"))


def heard(lease: Lease) -> Heard:
    """Return an answer about one lease."""
    return Heard("server", Topology(), {}, {"shop-a": lease})


def beat(at: float, wish: Wish) -> Beat:
    """Return a beat with one wish."""
    return Beat(at, None, "", False, None, (wish,))


def test_a_lease_lasts_from_the_sending_of_what_changed_it() -> None:
    """A renewal counts from when it was sent; a take of which only a look tells is ours, but good for nothing yet."""
    book = LeaseBook(lambda: "id")
    book.heard(beat(0.0, book.look("shop-a")), heard(Lease()), 1.0)
    take = book.take("shop-a")
    assert (take.wanted, take.expected) == (Wanted.TAKE_FREE, Lease())

    book.heard(beat(10.0, book.look("shop-a")), heard(Lease(1, "id")), 11.0)
    assert book.holdings["shop-a"].claim_until == float("-inf")

    book.heard(beat(12.0, book.renew("shop-a")), heard(Lease(1, "id", 1)), 14.0)
    assert (book.holdings["shop-a"].claim_until, book.holdings["shop-a"].abort_at) == (21.0, 25.0)
    assert book.holdings["shop-a"].token == "1.id"


def test_a_lease_that_changed_in_any_way_is_watched_anew() -> None:
    """A count that went back, as after a failover, is a change like a renewal: the 16 s start again."""
    book = LeaseBook(lambda: "id")
    for at, renewed in ((0.0, 5), (3.0, 5), (6.0, 4)):
        book.heard(beat(at, book.look("shop-a")), heard(Lease(7, "other", renewed)), at)

    assert book.sightings["shop-a"].ends_at == 22.0


def test_nothing_is_taken_soon_after_a_failover() -> None:
    """The server that answers now may not know of the last owner, who may send for 16 s more: also free leases wait."""
    book = LeaseBook(lambda: "id")
    book.heard(beat(0.0, book.look("shop-a")), heard(Lease()), 0.0)
    taking = Taking("edge-1", book, Process("boot", "pid:[1]", 1, 1), lambda _: None)
    taking.meet_primary("server-1", 10.0)
    assert taking.due(("shop-a",), ["edge-1"], 20.0) == (["shop-a"], 20.0)

    taking.meet_primary("server-2", 20.0)

    assert taking.due(("shop-a",), ["edge-1"], 35.9) == ([], 36.0)
    assert taking.due(("shop-a",), ["edge-1"], 36.0) == (["shop-a"], 36.0)


def test_a_former_owners_request_may_arrive_until_its_timeout_and_two_seconds_more() -> None:
    """Its first byte goes within 2 s of the claim, and it is given up a timeout later."""
    assert silent_after_s(10.0) == 12.0


def test_a_process_is_looked_up_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own has its start; a number that is not given out has none; one that /proc hides is not taken for ended."""
    mine = os.getpid()
    started = process_started(mine)
    assert started is not None
    assert started > 0
    assert process_started(2**22 + 1) is None

    monkeypatch.setattr(Path, "read_text", hidden)
    assert process_started(mine) == HIDDEN


def hidden(*_arguments: object, **_words: object) -> str:
    """Stand for a /proc that does not show a process."""
    raise FileNotFoundError


def test_a_lease_whose_release_was_asked_for_is_good_for_nothing() -> None:
    """The answer may be lost although the store let it go; only a later renewal that is acknowledged makes it ours."""
    book = LeaseBook(lambda: "id")
    book.heard(beat(0.0, book.look("shop-a")), heard(Lease()), 0.0)
    book.heard(beat(1.0, book.take("shop-a")), heard(Lease(1, "id")), 1.0)

    book.release("shop-a", "")
    assert book.holdings["shop-a"].claim_until == float("-inf")

    book.heard(beat(2.0, book.renew("shop-a")), heard(Lease(1, "id", 1)), 2.0)
    assert book.holdings["shop-a"].claim_until == 11.0


def test_what_a_gone_host_told_of_its_platforms_is_not_shown_as_now() -> None:
    """Of a live one it is; so it is of neither itself nor of one that tells it in another way."""
    facts = plain(LiveFacts(paused=True))

    def listed(name: str, age_s: float, live: dict[str, object]) -> Listed:
        return Listed(Heart(name=name, process="p", live=live), age_s)

    heard = Heard(
        primary="",
        topology=Topology(),
        hosts={
            "live": listed("live", 2.0, {"shop-a": facts}),
            "gone": listed("gone", 10.0, {"shop-b": facts}),
            "me": listed("me", 1.0, {"shop-c": facts}),
            "newer": listed("newer", 1.0, {"shop-d": {"paused": "in other words"}}),
        },
        leases={},
    )
    assert {name: view.paused for name, view in live_elsewhere(heard, "me").items()} == {"shop-a": True}
    assert live_elsewhere(None, "me") == {}


def test_only_the_last_writes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a minute, of each platform: an owner that runs for a month must not hold all that it ever wrote."""
    link = cast(Any, SimpleNamespace(another_server=None))
    now = 1000.0
    monkeypatch.setattr(last_writes, "elapsed_s", lambda: now)
    last = LastWrites(link, KeyNames("relay"), cast(Any, None), fence=lambda _: "1.x", script=cast(Any, None))
    for each in range(100):
        now = 1000.0 + 2.0 * each
        last.place("shop")
    assert len(last._kept["shop"].writes) == 1 + KEPT_S / 2
