"""What a comparison may ask a platform, how it reads the times that come back, and what it verifies later."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from relay.config.load import loads
from relay.daemon.reconciling.inquiries import Questions
from relay.delivery.pipeline import Pipeline
from relay.reconcile.job import ComparedSide, FileSource, PlatformReply, Question
from relay.reconcile.repairing import Repair, RepairsMade, carry_out
from relay.reconcile.report.folder import SUMMARY
from relay.reconcile.report.past import PastRuns
from relay.reconcile.sources.moments import Moments
from relay.reconcile.sources.orders_told import ReadOfAnswer, order_of
from relay.store.memory.backend import MemoryStore
from tests.clocks import FakeClock
from tests.unit.test_reconcile import NOW, OLD, comparison

CONFIG = """
version: 1
platforms: {shop-a: {url: https://shop.example/callbacks}}
reconcile:
  shop-a:
    order_center: {file: orders.csv}
    platform: {url: "https://shop.example/orders?page={page}", items_at: orders, next: {page: 1}}
    columns: {key: order_id, status: status, at: updated_at}
    order: [created, paid]
"""


@pytest.mark.parametrize(
    "page",
    [
        "https://evil.example/orders?page=2",
        "http://shop.example/orders?page=2",
        "https://shop.example:8443/orders",
        "https://shop.example@evil.example/orders",
        "https://shop.example/customers?page=2",
        "https://shop.example/orders/991?page=2",
    ],
)
async def test_no_page_elsewhere_is_asked_for(page: str) -> None:
    """A link that leads to another host, port or scheme would carry the platform's login there; and another path of
    the host is none of the orders' pages."""
    config = loads(CONFIG, path="config.yaml")

    def find(_: str) -> Pipeline:
        raise AssertionError("it was asked")

    questions = Questions(config=lambda: config, find=find, ledger=MemoryStore(clock=FakeClock()))
    reply = await questions.answer("shop-a", Question(page=page))

    assert (reply.outcome, reply.reason) == ("unsent", "the page is none of the configured platform's")


def test_times_in_one_minute_are_read_alike() -> None:
    """Whichever second of a minute comes first: the later ones, before and after it, are read exactly."""
    read = Moments(ZoneInfo("Asia/Shanghai")).read
    begin = datetime(2026, 11, 28, 18, 40, tzinfo=UTC).timestamp()
    for second in (37, 12, 0, 59, 37):
        assert read(f"2026-11-29 02:40:{second:02}") == begin + second


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-29 02:40:05",
        "2026-11-29T02:40:05",
        "2026-11-28T18:40:05Z",
        "2026-11-29T02:40:05+08:00",
        "20261129024005",
        "2026/11/29 02:40:05",
        "2026/11/29 2:40:05",
        "1795891205",
        "1795891205000",
        "1795891205.0",
    ],
)
def test_one_time_in_every_form(text: str) -> None:
    """ISO 8601, digits alone, slashes as spreadsheets write them, seconds and milliseconds since 1970."""
    assert Moments(ZoneInfo("Asia/Shanghai")).read(text) == 1795891205.0


def test_what_is_no_time() -> None:
    """Neither words nor dates that there are not; a day alone is its midnight."""
    read = Moments(ZoneInfo("Asia/Shanghai")).read
    assert [read(text) for text in ("", "soon", "20261340024005", "2026/13/01", "-5", "nan", "1e400", "9" * 20)] == [
        None
    ] * 8
    midnight = datetime(2026, 11, 28, 16, tzinfo=UTC).timestamp()
    assert [read(text) for text in ("20261129", "2026-11-29", "2026/11/29")] == [midnight] * 3


async def test_each_order_is_asked_about_before_it_is_sent_again(tmp_path: Path) -> None:
    """What the platform shows by now is left alone, and what nobody could ask about; another order's answer is none.

    It is left alone by a later status too, and sent where it is gone or behind.
    """

    def shown(key: str, status: str) -> PlatformReply:
        return told("ok", {"order_id": key, "status": status, "updated": OLD})

    def told(outcome: str, document: Any) -> PlatformReply:
        return order_of(document, PlatformReply(outcome, 200), ReadOfAnswer("", "", ("order_id", "status", "updated")))

    replies = {
        "applied": told("duplicate", {"errcode": 1}),
        "there": shown("there", "paid"),
        "later": shown("later", "signed"),
        "silent": PlatformReply("retry", 503),
        "unsent": PlatformReply("unsent", 0, reason="no slot"),
        "gone": PlatformReply("reject", 404),
        "behind": shown("behind", "created"),
        "other's": told("reject", {"order_id": "991", "status": "signed", "updated": OLD}),
    }
    asked = []
    sent: list[str] = []

    async def ask(question: Question) -> PlatformReply:
        asked.append((question.order, question.callback))
        return replies[question.order]

    async def resend(callbacks: Sequence[str]) -> int:
        sent.extend(callbacks)
        return 7

    side = ComparedSide(FileSource("", "utf-8"), "order_id", "status", "updated", [], {})
    repairs = [Repair(key, "missing", "resend", f"c-{key}", "paid") for key in replies]
    made = await carry_out(repairs, comparison(tmp_path, side, side, confirms=True), ask=ask, resend=resend, now=NOW)

    assert asked == [(key, f"c-{key}") for key in replies]
    assert sent == ["c-gone", "c-behind", "c-other's"]
    assert made == RepairsMade(8, sent=3, applied=3, unclear=2, operations=[7])


def test_repairs_are_verified_once(tmp_path: Path) -> None:
    """The next run verifies the last repairs, and the one after it has nothing to verify."""
    one, two = "20261128T184000000Z", "20261129T184000000Z"
    past = PastRuns(tmp_path)
    repairs = [Repair("991", "missing", "resend", "c1", "paid")]
    (tmp_path / one).mkdir()
    (tmp_path / one / SUMMARY).write_text("{}")
    past.keep_repairs(one, repairs)
    assert past.to_verify(None) == (one, repairs)

    past.keep_verified(one, two, [])

    assert past.to_verify(None) == (None, [])
    assert past.to_verify(one) == (one, repairs)  # a person may ask again
