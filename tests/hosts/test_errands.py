"""What an operator does on any host reaches the owner of the platform, and its answer comes back."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from relay.core.errors import StoreError, StoreFailed
from relay.core.model import Rate
from relay.core.raw import Record
from relay.hosts import errands as module
from relay.hosts.errands import Errands
from relay.hosts.shared_control import SharedControl, carry_out
from relay.views.live import LiveFacts


class Channels:
    """Carries messages to all who listen; the first ``lost`` ones go nowhere."""

    def __init__(self) -> None:
        self.heard: dict[str, list[Callable[[str], None]]] = {}
        self.lost = 0

    async def publish(self, channel: str, text: str) -> None:
        if self.lost:
            self.lost -= 1
            return
        for tell in self.heard.get(channel, ()):
            tell(text)


class Pipelines:
    """The pipelines of one host: those it runs, and what was done to them."""

    def __init__(self, *names: str) -> None:
        self.running = {name: LiveFacts() for name in names}
        self.done: list[tuple[Any, ...]] = []

    def views(self) -> Mapping[str, LiveFacts]:
        return self.running

    async def pause(self, name: str, reason: str, *, until: float | None, deed: Record | None = None) -> None:
        self.done.append(("pause", name, reason, until, deed))
        self.running[name] = LiveFacts(paused=True, pause_reason=reason)

    async def resume(self, name: str) -> int:
        if name not in self.running:
            raise KeyError(name)
        return 7

    async def flush(self, name: str, group: str | None = None) -> None:
        raise StoreError("the store is full")

    async def limit(self, name: str, rates: Sequence[Rate], *, until: float | None, reason: str) -> None:
        self.done.append(("limit", name, list(rates), until, reason))

    async def forget_limit(self, name: str) -> None:
        self.done.append(("forget", name))


def host(channels: Channels, name: str, pipelines: Pipelines) -> SharedControl:
    """Return what operators use on a host, connected to the others."""
    errands = Errands(
        name,
        channels,
        prefix="relay",
        owns=lambda platform: platform in pipelines.running,
        do=lambda platform, verb, words: carry_out(pipelines, platform, verb, words),
    )
    channels.heard.setdefault(errands.asks, []).append(errands.heard_question)
    channels.heard.setdefault(errands.answers, []).append(errands.heard_answer)
    return SharedControl(
        pipelines,
        errands,
        runs=lambda platform: platform in pipelines.running,
        configured=lambda: ["shop-a", "shop-b", "shop-c"],
        elsewhere=dict,
    )


async def test_each_deed_is_done_by_the_owner() -> None:
    """A pause, a limit and the rest are done where the platform runs; what went on there is seen at once."""
    channels, mine, theirs = Channels(), Pipelines("shop-a"), Pipelines("shop-b")
    control, _ = host(channels, "edge-1", mine), host(channels, "edge-2", theirs)

    await control.pause("shop-a", "mine", until=None, deed={"who": "ann"})
    await control.pause("shop-b", "theirs", until=12.5, deed={"who": "ann"})
    await control.limit("shop-b", [Rate(80, 60.0)], until=None, reason="")
    await control.forget_limit("shop-b")

    assert mine.done == [("pause", "shop-a", "mine", None, {"who": "ann"})]
    assert theirs.done == [
        ("pause", "shop-b", "theirs", 12.5, {"who": "ann"}),
        ("limit", "shop-b", [Rate(80, 60.0)], None, ""),
        ("forget", "shop-b"),
    ]
    assert await control.resume("shop-b") == 7
    assert [(name, view.waits_for) for name, view in control.views().items()] == [
        ("shop-a", ""),
        ("shop-b", ""),
        ("shop-c", "owner"),
    ]


async def test_what_went_wrong_there_is_said_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the owner's store, a platform that is not there, and one that nobody owns are told apart."""
    channels = Channels()
    control, _ = host(channels, "edge-1", Pipelines()), host(channels, "edge-2", Pipelines("shop-b"))

    with pytest.raises(StoreFailed, match="the store is full"):
        await control.flush("shop-b")
    with pytest.raises(KeyError):
        await control.flush("shop-x")
    monkeypatch.setattr(module, "_WITHIN_S", 0.05)
    with pytest.raises(StoreFailed, match="no host owns shop-c"):
        await control.flush("shop-c")


async def test_a_lost_message_is_asked_again_and_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The question is repeated until its answer comes; a repeat of what is done changes nothing."""
    monkeypatch.setattr(module, "_AGAIN_S", 0.01)
    channels, theirs = Channels(), Pipelines("shop-b")
    control, _ = host(channels, "edge-1", Pipelines()), host(channels, "edge-2", theirs)
    channels.lost = 1

    async with asyncio.timeout(20):
        await control.forget_limit("shop-b")

    assert theirs.done == [("forget", "shop-b")]


async def test_a_deed_that_takes_long_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is under way its question comes again and again; it is not begun anew, and then answered."""
    monkeypatch.setattr(module, "_AGAIN_S", 0.01)
    go_on, asked = asyncio.Event(), []

    class Slow(Pipelines):
        async def forget_limit(self, name: str) -> None:
            await super().forget_limit(name)
            await go_on.wait()

    def heard(text: str) -> None:
        asked.append(text)
        if len(asked) == 4:
            go_on.set()

    channels, theirs = Channels(), Slow("shop-b")
    control, _ = host(channels, "edge-1", Pipelines()), host(channels, "edge-2", theirs)
    channels.heard["relay:asks"].append(heard)

    async with asyncio.timeout(20):
        await control.forget_limit("shop-b")

    assert len(set(asked)) == 1
    assert theirs.done == [("forget", "shop-b")]


async def test_an_answer_that_is_lost_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deed is done once, and whoever asked again hears of it."""
    monkeypatch.setattr(module, "_AGAIN_S", 0.01)
    channels, theirs = Channels(), Pipelines("shop-b")
    control, _ = host(channels, "edge-1", Pipelines()), host(channels, "edge-2", theirs)

    def heard(_text: str) -> None:
        channels.lost = int(len(theirs.done) == 0)  # the next message is the answer

    channels.heard["relay:asks"].insert(0, heard)
    async with asyncio.timeout(20):
        await control.forget_limit("shop-b")

    assert theirs.done == [("forget", "shop-b")]


async def test_a_host_that_starts_anew_is_not_taken_for_its_former_process() -> None:
    """Its first question is no repeat of the first one that was asked under its name before."""
    channels, theirs = Channels(), Pipelines("shop-b")
    before, _ = host(channels, "edge-1", Pipelines()), host(channels, "edge-2", theirs)
    await before.pause("shop-b", "a stop", until=None, deed={})
    channels.heard["relay:asks"].pop(0)  # the former process ends
    channels.heard["relay:answers"].pop(0)
    anew = host(channels, "edge-1", Pipelines())

    async with asyncio.timeout(20):
        await anew.forget_limit("shop-b")

    assert theirs.done[1:] == [("forget", "shop-b")]


def test_a_message_that_cannot_be_read_is_passed_over() -> None:
    """Empty after a reconnection, or of another version: nothing is done, and nothing ends."""
    errands = Errands("edge-1", Channels(), prefix="relay", owns=lambda _name: True, do=carry_out)  # type: ignore[arg-type]
    for text in ("", "3 shop-a", '{"number": 7}'):
        errands.heard_question(text)
        errands.heard_answer(text)
