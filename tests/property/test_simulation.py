"""The simulator as a regression test of policy: invariants under random trouble, and the speeds SPEC 10 names."""

from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from relay.config.load import loads
from relay.config.reading.units import parse_rate
from relay.core.model import Batch
from relay.simulate.figures import RunFigures, figures, peak_of
from relay.simulate.model import parse_outage
from relay.simulate.record import Arrived, Record
from relay.simulate.run import FinalLedger, Scenario, simulate
from relay.simulate.traffic import Traffic, parse_burst
from relay.standin.settings import Settings

FILE = Path("simulated.yaml")


class WholeRecord(Record):
    """Also keeps what was in every request: its callbacks by sequence number, with their keys."""

    def __init__(self) -> None:
        super().__init__()
        self.contents: list[list[tuple[int, str | None]]] = []

    def arrived(self, request: Arrived, batch: Batch, *, at: float, clear: bool) -> None:
        """Keep the members too."""
        super().arrived(request, batch, at=at, clear=clear)
        self.contents.append([(item.seq, item.key) for item in batch.items])


def scenario(
    platform: str,
    *,
    rate: str | None = None,
    minutes: float = 5.0,
    bursts: tuple[str, ...] = (),
    outages: tuple[str, ...] = (),
    keys: int = 10_000,
    seed: int = 1,
    **words: object,
) -> Scenario:
    """Return a run of a platform given as YAML in flow style, without braces and URL."""
    config = loads(f"version: 1\nplatforms:\n  shop-a: {{url: http://shop.invalid/, {platform}}}\n", path=FILE)
    traffic = Traffic(
        for_s=minutes * 60,
        rate=parse_rate(rate) if rate else None,
        bursts=tuple(parse_burst(burst) for burst in bursts),
        keys=keys,
    )
    behaviour = Settings().changed({"latency": "50ms..200ms", **words})
    return Scenario(config, "shop-a", behaviour, tuple(parse_outage(word) for word in outages), traffic, seed)


def ran(given_scenario: Scenario) -> tuple[WholeRecord, FinalLedger, RunFigures]:
    """Run a scenario."""
    record = WholeRecord()
    ended = simulate(given_scenario, record)
    return record, ended, figures(given_scenario, record, ended)


def order_violations(record: WholeRecord) -> list[str]:
    """I6: per key, callbacks first arrive in the order accepted, and no request holds a key twice."""
    latest: dict[str, int] = defaultdict(int)
    seen: set[int] = set()
    found = []
    for request in record.contents:
        keys = [key for _, key in request if key is not None]
        if len(keys) != len(set(keys)):
            found.append(f"a request holds a key twice: {sorted(keys)}")
        for seq, key in request:
            if key is None or seq in seen:
                continue
            seen.add(seq)
            if seq < latest[key]:
                found.append(f"{seq} of {key} arrived after {latest[key]}")
            latest[key] = seq
    return found


PLATFORMS = st.builds(
    "rate: {}, concurrency: {}, batch: {{max_items: {}}}, retry: {{times: {}, backoff: 1s..30s}}, breaker: {}, "
    "timeout: 3s, expires: {}, {}classify: [{{status: 200, path: errcode, in: [45011], as: throttled}}, "
    "{{status: 200, path: errcode, in: [0], as: ok}}]".format,
    st.sampled_from(["5/s", "30/10s", "100/min", "[4/s, 60/min]", "[20/s, 50/30s, 200/5m]"]),
    st.integers(1, 8),
    st.sampled_from([1, 10, 100]),
    st.integers(0, 4),
    st.sampled_from(["off", "{open_after: 3, probe_every: 10s}"]),
    st.sampled_from(["2m", "24h"]),
    st.sampled_from(["", "burst: 3, ", "items: 150/min, ", "bytes: 8KiB/10s, ", "points: {rate: 40/5s, cost: 2}, "]),
)
TROUBLE = st.fixed_dictionaries(
    {
        "limit": st.lists(
            st.sampled_from(["80/min", "fixed:20/10s", "bucket:60/min", "sliding+refused:25/10s", "2/s"]), max_size=2
        ),
        "over": st.sampled_from(["429", "429+retry-after", "408", "refuse", "reset", "hang", "503", "200+errcode"]),
        "latency": st.sampled_from(["0s", "50ms..200ms", "0s..4s"]),
        "fault": st.sampled_from([[], ["500:0.05"], ["reset:0.1", "apply-then-500:0.1"], ["truncate:0.2", "hang:0.1"]]),
        "outages": st.sampled_from([(), ("30s@20s",), ("20s@10s:503", "40s@45s:hang"), ("60s@30s:apply-then-reset",)]),
        "bursts": st.sampled_from([(), ("200@15s",), ("50@10s", "300@50s")]),
        "keys": st.sampled_from([0, 3, 60, 2000]),
        "seed": st.integers(0, 2**32),
    }
)


@settings(max_examples=25)
@given(PLATFORMS, TROUBLE)
@example(
    "rate: 100/min, concurrency: 8", {"limit": ["2/s"], "over": "hang", "fault": ["reset:0.3"], "keys": 20, "seed": 7}
)
def test_invariants_hold_whatever_the_platform_does(platform: str, trouble: dict[str, object]) -> None:
    """I1, I6, I8 under random limits, outages, faults and answer times: nothing lost, in order, never above a rate."""
    planned = scenario(platform, rate="5/s", minutes=1.5, **trouble)  # type: ignore[arg-type]
    record, ended, found = ran(planned)

    came = sum(1 for _ in planned.traffic.incoming(seed=planned.seed))
    totals = ended.totals
    assert (totals.accepted, totals.unaccounted) == (came, 0), "I1: every callback is in exactly one state"
    assert totals.pending == ended.held, "what no time will end waits for a person"
    assert totals.delivered <= found.arrived, "only what the platform took is delivered"
    assert order_violations(record) == [], "I6"
    for quota in planned.rules.quotas.values():
        for rate in quota.rates:
            assert peak_of(record, rate, planned.traffic.start_at) <= rate.limit, f"I8: {rate}"


def test_a_steady_load_waits_about_one_pace() -> None:
    """SPEC 10: 50 callbacks a second into 100 requests a minute, p99 of accept to arrival at most 0.75 s."""
    _, ended, found = ran(scenario("rate: 100/min", rate="50/s", minutes=2))

    assert ended.totals.delivered == found.accepted > 5_500
    assert found.p99_s is not None
    assert found.p99_s <= 0.75
    assert found.peaks == {"100/min": 100}


def test_what_requests_carry_is_counted_on_both_sides() -> None:
    """A platform that counts callbacks turns away what is above; a relay that knows of it is never turned away."""
    known = "items: 600/min, points: {rate: 2000/min, cost: 'items[0].quantity'}, batch: {max_items: 60}"
    _, _, found = ran(scenario(known, bursts=("3000@1s",), keys=0, items="600/min"))
    assert (found.delivered, found.rejects, found.slots_of) == (3000, 0, "600 items/min")
    assert found.peaks["600 items/min"] == 600
    assert 600 < found.peaks["2000 points/min"] <= 2000
    assert found.slots_used is not None
    assert found.slots_used >= 0.97

    _, _, found = ran(scenario("batch: {max_items: 500}", bursts=("1500@1s",), keys=0, items="600/min"))
    assert found.rejects > 0


def test_slots_are_used_under_a_backlog() -> None:
    """SPEC 10: with work waiting, at least 97 % of 100 requests a minute are used."""
    _, _, found = ran(scenario("rate: 100/min, batch: {max_items: 2}", bursts=("1800@0s",)))

    assert found.delivered == 1800
    assert found.slots_used is not None
    assert found.slots_used >= 0.97
    assert found.slots_of == "100/min"


def test_a_burst_is_packed() -> None:
    """3,000 callbacks posted at once take at most 40 requests and are through within 10 s."""
    record, _, found = ran(scenario("rate: 100/min", bursts=("3000@1s",)))

    assert found.delivered == 3000
    assert found.requests <= 40
    assert record.requests[-1].at_s <= 11.0


def test_an_outage_is_survived_and_drained() -> None:
    """Three minutes of refused connections: nothing dies, few requests ask for it, the queue is empty soon after."""
    planned = scenario("rate: 100/min", rate="4/s", minutes=7, outages=("3m@2m",))
    record, ended, found = ran(planned)

    assert ended.totals.delivered == found.accepted
    down = [request for request in record.requests if not request.counted]
    assert 5 <= len(down) <= 15
    (drained,) = found.drained
    assert drained.after_s is not None
    assert drained.after_s <= 240.0  # the gap between the last requests of the outage, and the queue itself
    assert found.backlog_peak >= 680


@pytest.mark.parametrize("over", ["429", "408", "refuse"])
def test_an_unknown_limit_buries_nothing(over: str) -> None:
    """The incident: 60 a minute nobody announced, under a configured 100. Everything still arrives, once."""
    _, ended, found = ran(scenario("rate: 100/min", rate="5/s", minutes=6, limit=["60/min"], over=over))

    assert ended.totals.delivered == found.accepted
    assert found.repeats == 0
    assert found.rejects > 0
    assert found.peaks["60/min"] >= 60


def test_sending_hours_hold_and_are_used() -> None:
    """The run begins at midnight: nothing arrives before half past, and then at once what had gathered."""
    record, ledger, _ = ran(scenario('send: {between: ["00:30", "01:00"], tz: UTC}', rate="1/s", minutes=20.0))
    first = record.requests[0]
    assert 1800.0 <= first.at_s < 1801.0
    assert first.weight.items == 100
    assert ledger.totals.delivered == ledger.totals.accepted
    assert record.end_s < 1830.0


def test_a_quiet_key_saves_requests_and_waits_no_longer_than_the_most() -> None:
    """Of ten keys that change every second or so each goes once in a while, the newest; without it, at every change."""
    waits = "key: order_id, coalesce: {mode: latest, quiet: 3s, max: 20s}"
    quiet, ledger, _ = ran(scenario(waits, rate="10/s", minutes=2, keys=10))
    plain, _, _ = ran(scenario("key: order_id, coalesce: latest", rate="10/s", minutes=2, keys=10))
    assert ledger.totals.delivered + ledger.totals.superseded == ledger.totals.accepted
    assert ledger.totals.superseded > 0.5 * ledger.totals.accepted
    assert len(quiet.requests) < len(plain.requests) / 2
    assert 2.5 <= max(quiet.delays) <= 4.0
    assert min(quiet.delays) < 1.0


def test_items_are_used_and_never_exceeded() -> None:
    """``items: 120/min`` under backlog: never more in any minute, and at least 97 % are used."""
    platform = "items: 120/min, batch: {max_items: 10}, concurrency: 8"
    record, ledger, _ = ran(scenario(platform, rate="132/min", minutes=8.0, bursts=("300@0s",)))
    arrived = [(request.at_s, len(items)) for request, items in zip(record.requests, record.contents, strict=True)]
    assert ledger.totals.pending == 0
    assert sum(count for at, count in arrived if 60.0 <= at < 480.0) >= 0.97 * 120 * 7
    assert max(sum(count for at, count in arrived if end - 60.0 < at <= end) for end, _ in arrived) <= 120
