"""Virtual time leaps; what waits for nothing is told; traffic and figures count as they say."""

import asyncio

import pytest
from relay.core.model import Rate, Weight
from relay.simulate.figures import TimeSeries, most_in_any, percentile, series, slots_used
from relay.simulate.model import Outage, parse_outage
from relay.simulate.plot import COLUMNS, Drawn, svg, terminal
from relay.simulate.record import Arrived, Record
from relay.simulate.traffic import Incoming, Surge, Traffic, parse_burst, read_times, replay
from relay.simulate.virtual import Standstill, VirtualClock, VirtualLoop
from relay.standin.settings import BadSetting


def test_waiting_takes_no_time() -> None:
    """Sleepers wake in the order of their times, on a clock that shows exactly these times, a week in no time."""
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, wait_s: float, clock: VirtualClock) -> None:
        await asyncio.sleep(wait_s)
        woken.append((name, clock.now()))

    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        clock = VirtualClock(loop, 1_000.0)
        async with asyncio.timeout(700_000):
            await asyncio.gather(sleeper("week", 604_800.0, clock), sleeper("blink", 0.25, clock))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())

    assert woken == [("blink", 1_000.25), ("week", 605_800.0)]


def test_a_standstill_is_an_error() -> None:
    """A program that waits for what no timer brings fails at once instead of hanging."""

    async def run() -> None:
        await asyncio.sleep(5)
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner, pytest.raises(Standstill, match=r"at 5\.000 s"):
        runner.run(run())


def test_traffic_is_repeatable_and_in_order() -> None:
    """One seed, one traffic: the rate over time, the burst at its moment, keys out of so many."""
    traffic = Traffic(for_s=100.0, rate=Rate(10, 1.0), bursts=(Surge(50, 30.0),), keys=7)
    once, again, other = (list(traffic.incoming(seed=seed)) for seed in (1, 1, 2))

    assert once == again != other
    assert [each.at_s for each in once] == sorted(each.at_s for each in once)
    assert 900 < len(once) - 50 < 1100
    assert sum(each.at_s == 30.0 for each in once) == 50
    assert {each.key for each in once} == {f"order-{number}" for number in range(7)}


def test_accept_times_are_read_as_people_write_them() -> None:
    """ISO with and without a zone, epoch seconds, a key, a header and comments; what is none of these is named."""
    lines = ["accepted_at,order", "# noon", "2026-01-01T20:00:05+08:00,A1", "2026-01-01T12:00:01", "", "1767268800.5"]
    assert replay(read_times(lines, file="x.csv")) == (
        1767268800.5,
        [Incoming(0.0, None), Incoming(0.5, None), Incoming(4.5, "A1")],
    )
    with pytest.raises(BadSetting, match=r"x\.csv:2: 'soon' is no time"):
        read_times(["1767268800", "soon"], file="x.csv")
    with pytest.raises(BadSetting, match="nothing to replay"):
        replay([])


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["1e18"], r"x\.csv:1: 1e18 cannot be seconds; are these milliseconds"),
        (["accepted_at", "1767268800123"], r"x\.csv:2: 1767268800123 cannot be seconds; are these milliseconds"),
        (["0,A", "1767268800"], r"x\.csv:2: '1767268800' is more than 366 days away"),
        (["2026-01-01", "2026-06-01", "2024-12-31"], r"x\.csv:3: '2024-12-31' is more than 366 days away"),
    ],
)
def test_accept_times_that_cannot_be_meant_are_named(lines: list[str], told: str) -> None:
    """Empty years would be run through without a word."""
    with pytest.raises(BadSetting, match=told):
        read_times(lines, file="x.csv")


@pytest.mark.parametrize("text", ["3000", "x@1m", "0@1m", "5@10"])
def test_a_bad_burst_is_explained(text: str) -> None:
    """What is wrong with a burst is said in words."""
    with pytest.raises(BadSetting, match=f"burst '{text}'"):
        parse_burst(text)


@pytest.mark.parametrize("text", ["30m", "30m@10", "x@10m", "30m@10m:gone", "0s@10m"])
def test_a_bad_outage_is_explained(text: str) -> None:
    """What is wrong with an outage is said in words."""
    with pytest.raises(BadSetting, match=f"outage '{text}'"):
        parse_outage(text)


def test_an_outage_says_from_when_to_when() -> None:
    """30m@10m refuses connections from minute 10 to 40; a word after it says what else happens."""
    assert parse_outage("30m@10m")[:2] == (600.0, 2400.0)
    assert parse_outage("30m@10m").answer.act == "refuse"
    assert parse_outage("1m@0s:503").answer.status == 503


def test_figures_count_as_they_say() -> None:
    """Nearest-rank percentiles; two requests a whole window apart share none."""
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert percentile([], 0.5) is None
    assert most_in_any([0.0, 0.4, 1.0, 1.3, 2.5], 1.0) == 3
    assert most_in_any([0.0, 0.5, 1.0], 1.0) == 2
    assert most_in_any([], 1.0) == 0


def _request(at_s: float, *, limited: bool = False) -> Arrived:
    return Arrived(at_s, Weight(1, 10), "429" if limited else "200", not limited, limited, True)


def test_slots_used_looks_at_the_backlog_only() -> None:
    """Half of the slots used while callbacks wait is 50 %; idle time, outages and refused requests do not count."""
    record = Record()
    record.level(0.0, pending=0, waiting=0)
    record.level(100.0, pending=500, waiting=500)
    record.level(400.0, pending=0, waiting=0)
    record.requests = [_request(at_s) for at_s in range(40, 400, 20)] + [_request(210.0, limited=True)]
    rate, levels = Rate(10, 100.0), record.levels()

    assert slots_used(record, levels, rate, [], 10) == pytest.approx(0.5, abs=0.03)
    down = [Outage(250.0, 300.0, parse_outage("1s@1s").answer)]
    assert slots_used(record, levels, rate, down, 10) == pytest.approx(0.5, abs=0.03)
    assert slots_used(record, levels, rate, [], 501) is None


def test_a_series_holds_its_level_between_changes() -> None:
    """A column without a change shows what stood before; requests are counted over whole minutes."""
    record = Record()
    record.level(5.0, pending=7, waiting=7)
    record.level(95.0, pending=2, waiting=2)
    record.requests = [_request(at_s) for at_s in (1.0, 2.0, 61.0)]
    drawn = series(record, 10, 100.0)

    assert drawn.step_s == 10.0
    assert drawn.backlog == [7] * 10
    assert drawn.requests[0] == 2.0
    assert drawn.requests[-1] == 1.0
    assert not any(drawn.rejects)


def test_plots_fit_a_terminal_and_are_well_formed() -> None:
    """No line is wider than 80; a little is not nothing; the SVG parses and escapes what it quotes."""
    from xml.etree import ElementTree

    run = TimeSeries(60.0, [0, 1] + [800] * (COLUMNS - 2), [100.0] * COLUMNS, [0.0] * COLUMNS)
    drawn = [Drawn("a<b>.yaml", run, [(600.0, 900.0)]), Drawn("c.yaml", run, [])]
    lines = terminal(drawn, label=lambda seconds: f"{seconds:.0f}s")

    assert max(len(line) for line in lines) <= 80
    assert sum(" ▁" in line for line in lines) == 2
    assert any("×××××─" in line for line in lines)
    text = svg(drawn, title="modelled & more", notes=["5 < 6"], label=str)
    root = ElementTree.fromstring(text)
    assert len(root.findall(".//{*}polyline")) == 4
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
