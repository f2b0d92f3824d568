"""Log lines and metrics: what they say, and what they never say."""

import asyncio
import io
import logging
import re
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from relay.core.errors import StoreDamaged, StoreFailed
from relay.core.model import Batch, Item, Outcome
from relay.core.settlement import AttemptResult
from relay.telemetry import repeated
from relay.telemetry.events import Events
from relay.telemetry.failure import describe
from relay.telemetry.histogram import LATENCY_S, Series
from relay.telemetry.logging import bridge_stdlib, make_logger
from relay.telemetry.metrics import Metrics, reason_label
from relay.views.ledger import QueueTotals
from relay.views.live import LiveFacts
from relay.views.moments import Instant
from relay.views.queue import QueueFacts, QuotaUse, StoreSize

CANARY = "13812345678"


class Told:
    """An Events object over a log in memory."""

    def __init__(self, *, level: str = "debug", colours: bool = False) -> None:
        self.file = io.BytesIO()
        self.log = make_logger(file=self.file, level=level, colours=colours)
        self.metrics = Metrics()
        self.events = Events(log=self.log, metrics=self.metrics)

    @property
    def text(self) -> str:
        return self.file.getvalue().decode()

    @property
    def lines(self) -> list[dict]:
        return [msgspec.json.decode(line) for line in self.file.getvalue().splitlines()]

    def sample(self, name: str, **labels: str) -> float | None:
        for family in text_string_to_metric_families(self.metrics.render().decode()):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return None


def attempt(told: Told, **changes: Any) -> None:
    """Tell of one attempt of three callbacks at platform ``a``."""
    items = [Item(n, f"id{n}", b"{}", None, None, None, 0.0, 1.0, 0, 0, 0.0, maybe_applied=False) for n in range(3)]
    batch = Batch(1, "B1", 1, 1, "a", "", items, 0.0, 1)
    result = AttemptResult(Outcome.OK, 10.0, 0.2, status=200, raw_bytes=1000, wire_bytes=100)
    told.events.attempt(batch, replace(result, **changes))


def test_an_attempt_is_a_line_and_counted():
    """One attempt shows in the log and in the request, item, byte and duration metrics."""
    told = Told()
    attempt(told)
    attempt(told, outcome=Outcome.RETRY, status=None, reason="timeout")
    assert [(line["level"], line["event"], line["outcome"]) for line in told.lines] == [
        ("debug", "attempt", "ok"),
        ("info", "attempt", "retry"),
    ]
    assert told.sample("relay_requests_total", platform="a", outcome="ok", code_class="2xx") == 1
    assert told.sample("relay_requests_total", platform="a", outcome="retry", code_class="none") == 1
    assert told.sample("relay_batch_bytes_total", platform="a", stage="wire") == 200
    assert told.sample("relay_batch_items_count", platform="a") == 2
    assert told.sample("relay_request_duration_seconds_sum", platform="a") == pytest.approx(0.4)


def test_bulk_and_single_observation_agree():
    """A whole batch of latencies lands in the buckets that one by one would fill."""
    values = [0.0, 0.005, 0.0051, 0.3, 0.3, 59.0, 60.0, 61.0, 1e6]
    one, many = Series(LATENCY_S), Series(LATENCY_S)
    for value in values:
        one.add(value)
    many.add_many(iter(reversed(values)))
    assert many.counts == one.counts
    assert many.total == pytest.approx(one.total)
    assert sum(many.counts) == len(values)


def test_a_scrape_shows_the_stores_numbers():
    """Totals, queues, limits and the unaccounted difference come from the snapshot."""
    told = Told()
    told.metrics.snapshot(
        totals={"a": QueueTotals(accepted=9, delivered=4, dead=1, superseded=1, pending=2)},
        statuses={
            "a": QueueFacts(
                pending=2,
                in_flight=1,
                held=3,
                oldest_due_at=Instant(90.0),
                quotas=[
                    QuotaUse("a", window_s=60.0, limit=100, used=10),
                    QuotaUse("shared", window_s=60.0, limit=50, used=52),
                ],
            )
        },
        size=StoreSize(0, max_bytes=0, usable_bytes=0, full=False, disk_bytes=4096),
        live={"a": LiveFacts(paused=True), "b": LiveFacts(broken=True)},
        now=100.0,
    )
    assert told.sample("relay_callbacks_total", platform="a", result="delivered") == 4
    assert told.sample("relay_pending", platform="a") == 2
    assert told.sample("relay_in_flight", platform="a") == 1
    assert told.sample("relay_oldest_due_age_seconds", platform="a") == 10
    assert told.sample("relay_rate_limit", platform="a", window="60s", kind="configured") == 50
    assert (
        told.sample("relay_rate_used", platform="a", window="60s") == 50
    )  # lowered meanwhile: never more than the limit
    assert told.sample("relay_unaccounted") == 1
    assert told.sample("relay_store_bytes") == 4096
    assert told.sample("relay_held", platform="a") == 3
    assert [told.sample("relay_paused", platform=name) for name in "ab"] == [1, 0]
    assert [told.sample("relay_breaker_open", platform=name) for name in "ab"] == [0, 1]

    told.metrics.gate_changed(
        {"a": LiveFacts(broken=True), "b": LiveFacts()}
    )  # the store fails: what is known of the moment all the same
    assert [told.sample("relay_breaker_open", platform=name) for name in "ab"] == [1, 0]
    assert told.sample("relay_pending", platform="a") == 2


def test_build_and_token_failures() -> None:
    """Which version runs, and how often no token was to be had."""
    told = Told()
    told.events.started(version="1.2.3", store="sqlite:x", platforms=0)
    for _ in range(2):
        told.events.token_failed(credential="app", reason="errcode 40001", again_s=1.0)
    assert told.sample("relay_build_info", version="1.2.3") == 1
    assert told.sample("relay_token_failures_total", credential="app") == 2


def test_counters_do_not_fall_when_a_dead_callback_is_retried():
    """A total that falls by an operator's retry must not look like a restart to Prometheus."""
    told = Told()
    for dead in (3, 2, 4):
        told.metrics.snapshot(
            totals={"a": QueueTotals(accepted=5, dead=dead)}, statuses={}, size=None, live={}, now=0.0
        )
        told.metrics.render()
    assert told.sample("relay_callbacks_total", platform="a", result="dead") == 5


def test_labels_come_from_fixed_sets():
    """A reason with free text becomes its first word, an unknown one becomes ``other``."""
    assert reason_label("timeout") == "timeout"
    assert reason_label("server_error: 502") == "server_error"
    assert reason_label("503 Service Unavailable") == "server_error"
    assert reason_label("retries used up: timeout after 10 s") == "exhausted"
    assert reason_label("timeout after 10 s") == "timeout"
    assert reason_label(f"phone {CANARY}") == "other"


def test_a_flood_of_refusals_is_one_line():
    """A thousand refusals of one kind are counted each but told once."""
    told = Told()
    for _ in range(1000):
        told.events.refused(listener="ingest", code="store_full")
    told.events.refused(listener="ingest", code="too_large")
    assert [line["code"] for line in told.lines] == ["store_full", "too_large"]
    assert told.sample("relay_refused_total", listener="ingest", code="store_full") == 1000


def test_damage_is_told_once_an_hour_and_counted(monkeypatch: pytest.MonkeyPatch):
    """A platform meets the same damaged page every second."""
    told, at = Told(), [1000.0]
    monkeypatch.setattr(repeated, "elapsed_s", lambda: at[0])
    for at[0] in (1000.0, 1001.0, 1002.0, 4700.0):
        told.events.store_damaged(error=StoreDamaged("the store is damaged"))
    assert told.sample("relay_store_damage_total") == 4
    assert [line["since_last_line"] for line in told.lines] == [0, 2]


def test_a_store_that_goes_on_failing_is_told_once_a_minute(monkeypatch: pytest.MonkeyPatch):
    """By what it says; a failure after it has recovered is told at once."""
    told, at = Told(), [1000.0]
    monkeypatch.setattr(repeated, "elapsed_s", lambda: at[0])
    for at[0] in (1000.0, 1015.0, 1030.0, 1070.0):
        told.events.store_failed(error=StoreFailed("disk full"))
    told.events.store_failed(error=StoreFailed("no such file"))
    told.events.store_recovered(seconds=71.0)
    told.events.store_failed(error=StoreFailed("disk full"))
    assert [line.get("since_last_line") for line in told.lines] == [0, 2, 0, None, 0]


@pytest.mark.parametrize("colours", [False, True])
def test_no_payload_value_is_logged(colours: bool):
    """Values under payload-like names, bytes, objects and foreign exception messages do not reach the log."""
    told = Told(colours=colours)
    told.log.info("x", payload=CANARY, nested={"Authorization": CANARY}, raw=CANARY.encode(), thing=KeyError(CANARY))
    try:
        int(f"{CANARY}x")
    except ValueError as error:
        told.events.pipeline_failed(platform="a", error=error, restart_s=1.0)
    told.events.store_failed(error=StoreFailed("the disk is full"))
    assert CANARY not in told.text
    assert "the disk is full" in told.text
    assert "ValueError" in told.text


def test_foreign_log_lines_lose_their_values():
    """What aiohttp and asyncio log passes on with its fixed words, without request bytes or arguments."""
    told = Told()
    undo = bridge_stdlib(told.log)
    try:
        logging.getLogger("aiohttp.server").error("Error handling request from %s", CANARY)
        try:
            raise ValueError(CANARY)
        except ValueError:
            logging.getLogger("aiohttp.server").exception("Bad request b'%s'", CANARY)
        loop = asyncio.new_event_loop()
        loop.call_exception_handler({"message": f"Exception in callback f({CANARY!r})", "exception": KeyError(CANARY)})
        loop.close()
    finally:
        undo()
    assert [line["message"] for line in told.lines] == [
        "Error handling request from",
        "Bad request b",
        "Exception in callback f",
    ]
    assert CANARY not in told.text


@pytest.mark.parametrize("colours", [False, True])
def test_control_characters_are_escaped(colours: bool):
    """A value cannot start a new line, colour the terminal or turn the reading direction."""
    told = Told(colours=colours)
    told.log.info("x", reason="a\r\nb\x1b]0;c\x07\x9b\u2028\u202ed\udc80")
    if colours:
        assert told.text.count("\n") == 1
        assert "\x1b]0" not in told.text
    assert not set("\r\x07\x9b\u2028\u202e") & set(told.text)


def test_a_terminal_shows_what_happened_early_in_the_line():
    """The local time of day, the level and the event take 40 of its 80 columns; no day, no padding."""
    told = Told(colours=True)
    told.log.info("ready", seconds=0.3)
    (line,) = re.sub(r"\x1b\[[0-9;]*m", "", told.text).splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} \[info\] ready +seconds=0\.3", line)
    assert line.index("seconds") <= 40


def test_a_log_that_cannot_be_written_stops_nothing():
    """A closed log file loses lines; the caller does not notice."""
    told = Told()
    told.file.close()
    told.events.dead(platform="a", count=1, reason="budget")
    assert told.metrics.dead["a", "budget"] == 1


def test_levels_filter():
    """At level warning, an info line is not written."""
    told = Told(level="warning")
    told.events.breaker_closed(platform="a")
    told.events.breaker_opened(platform="a", reason="timeout")
    assert [line["event"] for line in told.lines] == ["breaker_opened"]


def test_describe_names_the_place():
    """An exception is told by type, our own words and where it was raised."""
    try:
        raise StoreFailed("fsync failed") from OSError(5, CANARY)
    except StoreFailed as error:
        told = describe(error)
    assert told["detail"] == "fsync failed"
    assert told["cause"] == "OSError"
    assert "test_describe_names_the_place" in told["where"]
