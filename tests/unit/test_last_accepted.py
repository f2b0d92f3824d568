"""What a host remembers of what it accepted last, without a server."""

import pytest
from relay.store.redis import last_accepted
from relay.store.redis.last_accepted import DrainedRows, LastAccepted
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.lineage import Lineage
from relay.store.redis.server.link import Durable, ServerCall
from relay.store.redis.server.tags import PlatformTags


class NewServer:
    """A link to a server that takes another one's place and lacks all from a number on."""

    def __init__(self, lacks_from: int) -> None:
        self.durable = Durable()
        self.met = Lineage("run1", "a:1", "x")
        self.asked = 0
        self._lacks_from = lacks_from

    def lineage_at(self, _key: str) -> Lineage:
        return self.met

    async def one(self, call: ServerCall) -> list[float | None]:
        numbers = call.args[2:]
        self.asked += len(numbers)
        return [float(number) if number < self._lacks_from else None for number in numbers]


class Remembering:
    """The memory under test, what it told as lost, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, lacks_from: int) -> None:
        self.now_s = 0.0
        self.lost: list[str] = []
        self.server = NewServer(lacks_from)
        monkeypatch.setattr(last_accepted, "elapsed_s", lambda: self.now_s)
        self.tags = PlatformTags(self.server, KeyNames("t"))  # type: ignore[arg-type]
        self.tags._tags.update(shop=1, mall=2)
        self.last = LastAccepted(
            self.server,  # type: ignore[arg-type]
            KeyNames("t"),
            self.tags,
            lost=lambda _platform, ids: self.lost.extend(ids),
        )

    async def fail_over(self) -> None:
        """Let another server answer, and look."""
        self.server.met = Lineage("run2", "b:1", "y", "x")
        await self.last.look()


@pytest.fixture
def remembering(monkeypatch: pytest.MonkeyPatch) -> Remembering:
    """One whose next server lacks all from number 50 on."""
    return Remembering(monkeypatch, lacks_from=50)


async def test_what_is_lost_is_named_as_it_was_told(remembering: Remembering) -> None:
    """By the id of its number, or by the one that a spool gave; what was known before or refused is not asked for."""
    last, tags = remembering.last, remembering.tags
    last.note("shop", [[49, 50], [-51, b"1K0VE24A9Y000R9"], [b"C", 0], [52]])
    last.note("mall", [[60]])
    last.note_drained(DrainedRows("shop", [48, 53], ["1K0VE24A9Y000R1", "1K0VE24A9Y000R2"], last.server("shop")))
    await remembering.fail_over()
    told = [tags.id_of("shop", 50), tags.id_of("shop", 52), "1K0VE24A9Y000R2", tags.id_of("mall", 60)]
    assert remembering.lost == told
    assert last.kept == 2
    remembering.server.met = Lineage("run3", "c:1", "z", "y")
    await last.look()
    assert remembering.lost == told


async def test_what_is_older_than_a_minute_is_forgotten(remembering: Remembering) -> None:
    """A replica that is promoted is not further behind."""
    for now_s in (0.0, 30.0, 70.0):
        remembering.now_s = now_s
        remembering.last.note("shop", [[100 + int(now_s)]])
    await remembering.fail_over()
    assert remembering.lost == [remembering.tags.id_of("shop", number) for number in (130, 170)]


async def test_no_more_than_so_many_are_kept(remembering: Remembering, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first, those of one moment together."""
    monkeypatch.setattr(last_accepted, "_MOST", 1000)
    for now_s in range(0, 60, 6):
        remembering.now_s = float(now_s)
        remembering.last.note("shop", [list(range(1000 * now_s + 1, 1000 * now_s + 301))])
    assert remembering.last.kept == 900
    await remembering.fail_over()
    assert len(remembering.lost) == 900
    assert remembering.lost[-1] == remembering.tags.id_of("shop", 54300)
