"""What is told of a settled attempt, each fact as a line and as a count."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog
from relay.core.model import Batch, Item, Outcome, State
from relay.core.settlement import AttemptResult, Ending, Requeue, Resend, Settlement
from relay.delivery.reporting import report_settled
from relay.policy.gate.breaker import Breaker, BreakerTerms
from relay.policy.gate.platform import Gate
from relay.policy.objective import Objective
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics
from relay.views.ledger import QueueTotals

NOW = 1_000_000.0


class Teller:
    """Tells what became of one batch of three."""

    def __init__(self, lines: list[MutableMapping[str, Any]]) -> None:
        self.lines = lines
        self.metrics = Metrics()
        self.events = Events(log=structlog.get_logger(), metrics=self.metrics)
        self.gate = Gate(Breaker(BreakerTerms(5, 30.0)), base_s=2.0, cap_s=600.0)

    def tell(self, outcome: Outcome, *, was_open: bool = False, **parts: Any) -> None:
        """Tell a settlement with these parts."""
        items = [
            Item(seq, str(seq), b"{}", None, None, None, NOW - 2, NOW + 60, 0, 0, 0.0, maybe_applied=False)
            for seq in (1, 2, 3)
        ]
        batch = Batch(7, "b7", 1, 9, "shop", "", items, NOW, 7)
        result = AttemptResult(outcome, NOW, 0.25, status=200, reason="said so", raw_bytes=300, wire_bytes=100)
        settlement = Settlement(7, 9, "shop", result, **parts)
        report_settled(
            self.events,
            batch,
            settlement,
            gate=self.gate,
            was_open=was_open,
            was_plain=False,
            objective=Objective(within_s=1.0, share=0.99),
        )

    def told(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of an event."""
        return [dict(line) for line in self.lines if line["event"] == event]

    def counted(self, sample: str) -> str:
        """Return the value of a sample, "" where there is none."""
        found = [line for line in self.metrics.render().decode().splitlines() if line.startswith(sample + " ")]
        return found[0].rpartition(" ")[2] if found else ""


@pytest.fixture
def teller() -> Iterator[Teller]:
    """A teller whose lines are kept."""
    with structlog.testing.capture_logs() as lines:
        yield Teller(lines)


def test_a_resend_is_told_with_its_number(teller: Teller) -> None:
    """All items of a batch that goes again count as retries."""
    teller.tell(Outcome.RETRY, resend=Resend(NOW + 5, True, "said so"))

    (line,) = teller.told("retried")
    assert (line["platform"], line["count"], line["reason"]) == ("shop", 3, "retry")
    assert teller.counted('relay_retries_total{platform="shop",reason="retry"}') == "3.0"


def test_requeued_items_alone_are_retries(teller: Teller) -> None:
    """Of a partly accepted batch only what goes back counts; the rest is delivered, each with its latency."""
    again = [Requeue([2], NOW + 5, True, "busy"), Requeue([3], NOW + 6, False, "throttled")]
    teller.tell(Outcome.OK, delivered=[1], requeue=again)

    assert [line["count"] for line in teller.told("retried")] == [2]
    assert teller.counted('relay_retries_total{platform="shop",reason="other"}') == "2.0"
    assert teller.counted('relay_delivery_latency_seconds_count{platform="shop"}') == "1.0"
    assert teller.counted('relay_delivery_latency_seconds_sum{platform="shop"}') == "2.0"


def test_held_items_are_a_warning(teller: Teller) -> None:
    """They wait for a person, who must be told."""
    teller.tell(Outcome.CONFIRM, held=[1, 3])

    (line,) = teller.told("held")
    assert (line["platform"], line["count"], line["reason"]) == ("shop", 2, "said so")
    assert line["log_level"] == "warning"


def test_ends_are_told_by_what_they_are(teller: Teller) -> None:
    """Dead letters are counted, expired ones told as such."""
    teller.tell(
        Outcome.REJECT, endings=[Ending([1, 2], State.DEAD, "rejected: 400"), Ending([3], State.EXPIRED, "expired")]
    )

    assert [(line["count"], line["reason"]) for line in teller.told("dead")] == [(2, "rejected: 400")]
    assert [line["count"] for line in teller.told("expired")] == [1]
    assert teller.counted('relay_dead_letters_total{platform="shop",reason="reject"}') == "2.0"


def test_an_attempt_is_counted_with_its_bytes(teller: Teller) -> None:
    """What was sent and what it would have been uncompressed; a batch that was never sent is no request."""
    teller.tell(Outcome.OK, delivered=[1, 2, 3])
    teller.tell(Outcome.UNSENT, held=[1])

    assert teller.counted('relay_requests_total{code_class="2xx",outcome="ok",platform="shop"}') == "1.0"
    assert teller.counted('relay_batch_bytes_total{platform="shop",stage="raw"}') == "300.0"
    assert teller.counted('relay_batch_bytes_total{platform="shop",stage="wire"}') == "100.0"
    assert len(teller.told("attempt")) == 1


def test_the_breaker_is_told_when_it_opens_and_closes(teller: Teller) -> None:
    """Once each, with the reason."""
    teller.gate.breaker.is_open, teller.gate.breaker.reason = True, "5 in a row"
    teller.tell(Outcome.DOWN, resend=Resend(NOW + 5, False, "down"))
    teller.tell(Outcome.DOWN, was_open=True, resend=Resend(NOW + 5, False, "down"))
    assert [line["reason"] for line in teller.told("breaker_opened")] == ["5 in a row"]

    teller.gate.breaker.is_open = False
    teller.tell(Outcome.OK, was_open=True, delivered=[1, 2, 3])
    assert len(teller.told("breaker_closed")) == 1


def test_a_throttle_is_told_with_its_wait(teller: Teller) -> None:
    """How long the platform is left alone; an answer that is none says nothing of it."""
    teller.gate.stopped_until, teller.gate.throttled = NOW + 30, True
    teller.tell(Outcome.THROTTLED, requeue=[Requeue([1, 2, 3], NOW + 30, False, "429")])
    teller.tell(Outcome.OK, delivered=[1, 2, 3])

    assert [line["wait_s"] for line in teller.told("throttled")] == [30.0]


def test_a_platform_that_takes_no_compression_is_told_once(teller: Teller) -> None:
    """When it is found out, not with each plain body after it."""
    teller.gate.coding.plain = True
    teller.tell(Outcome.PLAIN, resend=Resend(NOW, False, "415"))
    assert len(teller.told("plain_remembered")) == 1


def test_repeats_are_counted_apart(teller: Teller) -> None:
    """``accepted`` is what is new."""
    teller.events.accepted(platform="shop", count=2, duplicates=3)
    teller.metrics.snapshot(
        totals={"shop": QueueTotals(accepted=2, pending=2)}, statuses={}, live={}, size=None, now=NOW
    )

    assert teller.counted('relay_callbacks_total{platform="shop",result="duplicate"}') == "3.0"
    assert teller.counted('relay_callbacks_total{platform="shop",result="accepted"}') == "2.0"
