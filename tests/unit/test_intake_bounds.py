"""What bounds the intake, piece by piece: room in bytes, lines in time, turns in both, keys, searches, decoding."""

import asyncio
import gc
import gzip
import resource
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from backports import zstd
from relay.core.errors import StoreFailed, Unfit
from relay.core.model import Accepted, NewCallback
from relay.ingest import pressure, room, search_thread
from relay.ingest.admission import Admission, Held
from relay.ingest.post_options import read_post_options
from relay.ingest.pressure import Line, Pressure, rows_of
from relay.ingest.room import Room
from relay.ingest.rows import MAX_LINES, Lines, PlatformIntake, Turn, envelope_rows, one_row, plain_rows
from relay.store.base import OWN_ROWS_S
from relay.web.admit import Connections
from relay.web.body import Unbounded
from relay.web.decoding import PIECE_BYTES, Decoder
from relay.web.refusal import Refusal
from relay.wire.compress import TooLarge, decode_pieces
from relay.wire.payload.extract import KeyPath

MAX_BODY = 1 << 20
KEYED = PlatformIntake(name="p", needs_json=True, expires_s=60.0, max_bytes=1 << 21, key=KeyPath("id"))
SEARCHED = PlatformIntake(
    name="p", needs_json=True, expires_s=60.0, max_bytes=1 << 21, key=KeyPath("items[?main].id | [0]"), searches=True
)


KEYED_NOT = PlatformIntake(name="p", needs_json=False, expires_s=60.0, max_bytes=1 << 21, key=None)


class Clock:
    """A clock the test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of room and lines."""
    made = Clock()
    monkeypatch.setattr(room, "elapsed_s", made)
    monkeypatch.setattr(pressure, "elapsed_s", made)
    return made


def code_of(action: Callable[[], object]) -> str:
    """Return the code an action is refused with."""
    with pytest.raises(Refusal) as caught:
        action()
    return caught.value.code


# --- connections


@dataclass(eq=False)
class Client:
    """A connection as its listener sees it."""

    idle: bool
    closed: bool = False

    def force_close(self) -> None:
        self.closed = True


def test_a_new_connection_takes_the_place_of_the_longest_idle():
    """Never that of one in the middle of a request; where all are at work there is no place."""
    connections = Connections()
    connections.most = 3
    working, idle, idle_since_now = Client(idle=False), Client(idle=True), Client(idle=True)
    for client in (working, idle_since_now, idle, idle_since_now):
        connections.used(client)
    assert connections.make_room()
    assert [client.closed for client in (working, idle, idle_since_now)] == [False, True, False]
    idle_since_now.idle = False
    connections.used(Client(idle=False))
    assert not connections.make_room()
    assert not working.closed


def test_connections_leave_three_descriptors_in_four(monkeypatch: pytest.MonkeyPatch):
    """The rest is for the other listener, for platforms and for the store."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (400, 400))
    assert Connections().most == 100
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_000_000, 1_000_000))
    assert Connections().most == 1000


# --- room


def test_the_upload_that_cost_the_most_makes_way(clock: Clock):
    """Bytes times seconds decide: a stalled upload goes before a new one of the same size, and is told why."""
    rooms = Room(max_bytes=1000, max_uploading_bytes=1000)
    ended: list[str] = []
    stalled = rooms.upload(lambda: ended.append("stalled"))
    stalled.grow(500)
    clock.now += 1.0
    fresh = rooms.upload(lambda: ended.append("fresh"))
    fresh.grow(400)
    clock.now += 1.0
    fresh.grow(400)
    assert ended == ["stalled"]
    assert rooms.uploading_bytes == 800
    assert stalled.refusal is not None
    assert (stalled.refusal.code, stalled.refusal.close) == ("overloaded", True)
    assert "disk" not in stalled.refusal.detail
    assert code_of(lambda: stalled.grow(1)) == "overloaded"


def test_a_small_upload_that_stalls_costs_more_than_a_large_new_one(clock: Clock):
    """Not the size decides: 100 bytes held for a minute go before 800 that came just now."""
    rooms = Room(max_bytes=1000, max_uploading_bytes=1000)
    ended: list[str] = []
    rooms.upload(lambda: ended.append("stalled")).grow(100)
    clock.now += 60.0
    rooms.upload(lambda: ended.append("large")).grow(800)
    clock.now += 1.0
    rooms.upload(lambda: ended.append("fresh")).grow(150)
    assert ended == ["stalled"]


def test_many_slow_uploads_make_way_for_one_that_moves(clock: Clock):
    """However many small uploads drip, a new one gets the room it needs; the one that asks may be the one to go."""
    rooms = Room(max_bytes=1000, max_uploading_bytes=1000)
    ended: list[int] = []
    for number in range(100):
        rooms.upload(lambda number=number: ended.append(number)).grow(10)
    clock.now += 5.0
    rooms.upload(lambda: ended.append(-1)).grow(500)
    assert len(ended) == 50
    assert -1 not in ended
    assert rooms.uploading_bytes == 1000
    greedy = rooms.upload(lambda: None)
    greedy.grow(450)
    clock.now += 60.0
    rooms.upload(lambda: None).grow(1)
    assert code_of(lambda: greedy.grow(600)) == "overloaded"


def test_one_request_may_be_larger_than_the_room(clock: Clock):
    """Alone, a body of any size passes; the last eighth of the room is for small ones."""
    rooms = Room(max_bytes=1_000_000, max_uploading_bytes=10)
    rooms.upload(lambda: None).grow(5000)
    rooms.hold(2_000_000, 0)
    assert code_of(lambda: rooms.hold(100, 0)) == "overloaded"
    rooms.held_bytes = 1_000_000
    assert code_of(lambda: rooms.hold(100_000, 0)) == "overloaded"
    rooms.hold(60_000, 0)
    rooms.hold(-60_000, 60_000)
    assert rooms.held_bytes == 1_000_000


def test_uploads_and_complete_requests_share_one_account(clock: Clock):
    """Together they stay in the room: uploads make way for a complete post, and none is left where those have it."""
    rooms = Room(max_bytes=1_000_000, max_uploading_bytes=700_000)
    ended: list[str] = []
    rooms.upload(lambda: ended.append("stalled")).grow(400_000)
    clock.now += 1.0
    moving = rooms.upload(lambda: ended.append("moving"))
    moving.grow(300_000)
    rooms.hold(600_000, 0)
    assert ended == ["stalled"]
    assert (rooms.held_bytes, rooms.uploading_bytes) == (600_000, 300_000)
    assert code_of(lambda: moving.grow(200_000)) == "overloaded"
    assert ended == ["stalled"]  # nobody is ended for what has no room even so
    rooms.hold(450_000, 600_000)  # one request alone may exceed the bound
    assert ended == ["stalled", "moving"]
    assert (rooms.held_bytes, rooms.uploading_bytes) == (1_050_000, 0)
    rooms.upload(lambda: None).grow(60_000)
    rooms.hold(-1_000_000, 1_050_000)


# --- lines


def test_a_line_shrinks_to_what_the_store_takes_and_grows_again(clock: Clock):
    """One slow round makes the bound fit at once, the same round does not count twice, quick full rounds raise it."""
    line = Line(allowed=8000, least=100, most=10_000)
    line.under_way = 8001
    line.check()  # a few are no overload
    line.requests = 4
    assert code_of(line.check) == "overloaded"
    line.requests, line.under_way = 1, 10_001  # one that is huge is
    assert code_of(line.check) == "overloaded"
    clock.now = 101.0
    line.finished(500, began_s=100.0, before=7000)  # a second for what was allowed
    assert line.allowed == pytest.approx(3200)
    line.finished(500, began_s=100.0, before=7500)  # began before the change: the same queue
    assert line.allowed == pytest.approx(3200)
    clock.now = 101.1
    line.finished(500, began_s=101.0, before=100)  # quick, but the queue was not full
    assert line.allowed == pytest.approx(3200)
    line.finished(500, began_s=101.0, before=2000)
    assert line.allowed == pytest.approx(3250)
    line.under_way = 3200
    line.check()


def test_slowness_of_its_own_shuts_nobody_out(clock: Clock):
    """A request that had nobody before it says nothing about the queue, and no bound falls below its least."""
    line = Line(allowed=8000, least=1000, most=10_000)
    clock.now = 160.0
    line.finished(100_000, began_s=100.0, before=0)
    assert line.allowed == 8000
    for _ in range(10):
        clock.now += 60.0
        line.finished(10, began_s=clock.now - 59.0, before=5)
    assert line.allowed == 1000


def test_large_work_stands_in_another_line():
    """Small posts, bulk requests and slow searches do not shut each other out."""
    lines = Pressure()
    assert lines.line(400, bulk=False, searched=True) is lines.small
    assert lines.line(400, bulk=True, searched=False) is lines.large
    assert lines.line(None, bulk=False, searched=False) is lines.large
    assert lines.line(1 << 20, bulk=False, searched=True) is lines.searched
    assert rows_of(400_000, bulk=True) > 1000 > rows_of(400_000, bulk=False)


# --- turns


def test_turns_are_short_in_lines_and_bytes():
    """No turn has more than 500 lines, or more than 256 KiB unless it is one line; numbers and order are kept."""
    lines = [b"x" * 10] * 1200 + [b"y" * 300_000] * 3 + [b"z" * 1000] * 700
    turns = list(Lines([b"\n".join(lines)], MAX_BODY).turns())
    assert [line for turn in turns for line in turn.lines] == lines
    assert all(len(turn.lines) <= 500 and (turn.size <= 256 * 1024 or len(turn.lines) == 1) for turn in turns)
    assert all(turn.size == sum(map(len, turn.lines)) for turn in turns)
    first = 1
    for turn in turns:
        assert turn.first == first
        first += len(turn.lines)


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 1000])
def test_lines_do_not_depend_on_how_the_body_came(cut: int):
    """Pieces of any size give the lines of the whole; empty lines keep their numbers; both line ends are known."""
    body = b'{"a":1}\r\n\n  \n{"b":2}\n\r\n{"c":3}'
    parts = [body[at : at + cut] for at in range(0, len(body), cut)]
    lines = Lines(parts, MAX_BODY)
    assert parts == []
    assert lines.count == 6
    (turn,) = lines.turns()
    assert [lines.number(index) for index in range(3)] == [1, 4, 6]
    assert turn.lines == [b'{"a":1}', b"", b"  ", b'{"b":2}', b"", b'{"c":3}']


def test_lines_are_bounded():
    """One more line than allowed is refused, in one piece or in many."""
    assert Lines([b"\n" * (MAX_LINES - 1)], MAX_BODY).count == MAX_LINES
    assert code_of(lambda: Lines([b"\n" * (MAX_LINES + 1)], MAX_BODY)) == "too_large"
    assert code_of(lambda: Lines([b"1\n" * 1000] * (MAX_LINES // 1000 + 1), MAX_BODY)) == "too_large"


def test_a_line_that_holds_no_payload_is_never_put_together():
    """A line that is longer than a payload and its envelope is refused by its number, whatever it consists of."""
    piece = b" " * 100_000
    parts = [b"{}\n{}\n", *[piece] * 300]
    with pytest.raises(Refusal) as caught:
        Lines(parts, MAX_BODY)
    assert (caught.value.code, caught.value.detail) == ("too_large", "line 3: its payload exceeds 1048576 bytes")
    assert len(parts) > 280  # the rest was not looked at
    assert Lines([piece] * 11, MAX_BODY).count == 1


# --- keys and searches


async def test_searches_rest_as_long_as_they_took(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    """One at a time; the next begins after a rest, also behind one that failed. What a search makes is counted."""
    monkeypatch.setattr(search_thread, "elapsed_s", clock)
    rooms = Room(max_bytes=1_000_000, max_uploading_bytes=1)
    loop = asyncio.get_running_loop()
    times: list[float] = []
    held_bytes: list[int] = []

    def search() -> int:
        times.append(loop.time())
        held_bytes.append(rooms.held_bytes)
        clock.now += 0.05
        return len(times)

    def fail() -> None:
        search()
        raise ValueError("no")

    made = search_thread.SearchThread()
    held = Held(rooms, Pressure(), False, True)
    first, second, third = await asyncio.gather(
        *(made.run(each, held, 1000) for each in (search, fail, search)), return_exceptions=True
    )
    made.close()
    assert (first, str(second), third) == (1, "no", 3)
    assert all(later - earlier >= 0.049 for earlier, later in pairwise(times))
    assert held_bytes == [30_000] * 3
    assert rooms.held_bytes == 0


@pytest.mark.parametrize("key", ["k" * 1025, "键" * 342])
def test_a_key_is_bounded_wherever_it_comes_from(key: str):
    """1024 bytes pass; more is refused by payload, line, envelope, header and search."""
    options = read_post_options({}, KEYED)
    fits, too_long = (f'{{"id":"{text}"}}'.encode() for text in (key[:-1], key))
    assert one_row(fits, KEYED, options, None).key == key[:-1]
    turn = Turn(1, [fits, too_long], len(fits) + len(too_long))
    for refused in (
        lambda: one_row(too_long, KEYED, options, None),
        lambda: plain_rows(turn, KEYED, options, 1 << 20),
        lambda: one_row(b'{"items":[{"main":1,"id":"%b"}]}' % key.encode(), SEARCHED, options, None),
    ):
        assert code_of(refused) == "unfit_payload"
    line = b'{"payload":{},"key":"%b"}' % key.encode()
    enveloped = Turn(1, [line], len(line))
    assert code_of(lambda: envelope_rows(enveloped, KEYED, options, 1 << 20)) == "invalid_header"
    assert code_of(lambda: read_post_options({"Relay-Key": key}, KEYED)) == "invalid_header"


def test_a_search_is_bounded():
    """A filter over thousands of items works; one over hundreds of thousands is refused, as 422 and with the line."""
    items = b'{"items":[%b{"main":true,"id":7}]}'
    path = KeyPath("items[?main].id | [0]")
    assert path(items % (b"{}," * 10_000)) == "7"
    huge = items % (b"{}," * 200_000)
    with pytest.raises(Unfit, match="steps"):
        path(huge)
    options = read_post_options({}, SEARCHED)
    assert code_of(lambda: one_row(huge, SEARCHED, options, None)) == "unfit_payload"
    with pytest.raises(Refusal) as caught:
        plain_rows(Turn(8, [huge], len(huge)), SEARCHED, options, 1 << 20)
    assert (caught.value.code, caught.value.extra["line"]) == ("unfit_payload", 8)


# --- decoding


@pytest.mark.parametrize(("codec", "pack"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
def test_a_body_is_decoded_in_small_pieces(codec: str, pack: Callable[[bytes], bytes]):
    """However much a kilobyte decodes to, and in however many members, no piece exceeds its bound nor all the limit."""
    bomb = pack(bytes(4 << 20))
    for body in (bomb, bomb * 3, pack(b"") * 50 + bomb):
        pieces = decode_pieces(body, codec, 16 << 20, 1000)
        assert all(0 < len(next(pieces)) <= 1000 for _ in range(100))
    assert sum(map(len, decode_pieces(bomb, codec, 4 << 20, 100_000))) == 4 << 20
    made: list[int] = []
    with pytest.raises(TooLarge):
        made.extend(map(len, decode_pieces(bomb * 3, codec, 5 << 20, 100_000)))
    assert sum(made) <= 5 << 20


async def test_no_piece_is_made_before_it_has_room():
    """Decoding asks for each piece before it makes it, gives back what it did not need, and stops when refused."""
    told: list[str] = []

    def pieces(body: bytes, coding: str, limit: int) -> Iterator[bytes]:
        for _ in range(3):
            told.append("made")
            yield bytes(10)

    class Reserve(Unbounded):
        most = 10

        def grow(self, size: int) -> None:
            if size == PIECE_BYTES and told.count("made") == self.most:
                raise Refusal("overloaded")
            told.append("asked" if size == PIECE_BYTES else f"used {size + PIECE_BYTES}")

    decoder = Decoder(pieces)
    body = bytes(10_000)
    assert await decoder(body, "any", 100, Reserve()) == [bytes(10)] * 3
    given_back = f"used {PIECE_BYTES - len(body)}"  # the body itself
    assert told == ["asked", "made", "used 10"] * 3 + ["asked", "used 0", given_back]
    told.clear()
    Reserve.most = 2
    with pytest.raises(Refusal, match="overloaded"):
        await decoder(body, "any", 100, Reserve())
    assert told.count("made") == 2
    decoder.close()


async def test_nobody_is_missed_who_went_before_the_store_failed() -> None:
    """An answer that nobody waits for any more ends by an error without a word in the log."""
    loop = asyncio.get_running_loop()
    given: list[asyncio.Future[Accepted]] = [loop.create_future()]

    class Failing:
        slowest_rows_s = OWN_ROWS_S

        def accept(self, rows: Sequence[NewCallback]) -> "asyncio.Future[Accepted]":
            return given[0]

    lost: list[object] = []
    loop.set_exception_handler(lambda _loop, context: lost.append(context))
    admission = Admission(inbox=Failing(), max_bytes=1 << 20, max_uploading_bytes=1 << 20)  # type: ignore[arg-type]
    held = admission.enter(2, bulk=False, searches=False)
    held.complete(2)
    answer = admission.commit([one_row(b"{}", KEYED_NOT, read_post_options({}, KEYED_NOT), None)], held)
    given.pop().set_exception(StoreFailed("no room"))
    await asyncio.sleep(0)
    assert answer.done()
    del answer
    gc.collect()
    assert lost == []
