"""Presets know where their platforms show orders: the pages asked for, and what their orders mean."""

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from relay.config.load import loads
from relay.config.reading.presets import preset
from relay.config.schema.file import Config
from relay.reconcile.job import PagedSource, PlatformReply, Question
from relay.reconcile.preparing import Window, comparison
from relay.reconcile.sources.orders_told import ReadOfAnswer, page_of
from relay.reconcile.sources.pages import PagedRecords, filled
from relay.reconcile.staging import RowReader
from tests.unit.test_presets import supplied

NOW = 1_800_000_000.0  # 2027-01-15 08:00 UTC
SHOP = {
    "shopify": "https://shop.example/admin/api/2026-10/orders.json?status=any&updated_at_min={since}",
    "woocommerce-batch": "https://shop.example/wp-json/wc/v3/orders?page={page}&modified_after={since}",
}
ORDERS: dict[str, tuple[Any, tuple[str, str, float]]] = {
    "shopify": (
        {"orders": [{"name": "#1001", "cancelled_at": None, "fulfillment_status": None, "financial_status": "paid",
                     "updated_at": "2027-01-15T15:00:00+08:00"}]},
        ("#1001", "paid", NOW - 3600),
    ),
    "woocommerce-batch": (
        [{"id": 17, "status": "completed", "date_modified_gmt": "2027-01-15T07:00:00"}],
        ("17", "closed", NOW - 3600),
    ),
    "taobao-logistics": (
        {"trades_sold_increment_get_response": {"trades": {"trade": [
            {"tid": 2231958349, "status": "WAIT_BUYER_CONFIRM_GOODS", "modified": "2027-01-15 15:00:00"}]}}},
        ("2231958349", "shipped", NOW - 3600),
    ),
    "jd": (
        {"jingdong_pop_order_search_responce": {"searchorderinfo_result": {"orderInfoList": [
            {"orderId": "9", "orderState": "FINISHED_L", "modified": "2027-01-15 15:00:00"}]}}},
        ("9", "closed", NOW - 3600),
    ),
}  # fmt: skip
"""By preset: an answer as its platform gives it, and the order in it: key, status, time."""


def configured(name: str, **section: Any) -> Config:
    """Load a platform with the preset, compared with a file."""
    columns = {"key": "order_no", "status": "status", "at": "updated_at"}
    own = {"order_center": {"file": "orders.csv"}, "columns": {"order_center": columns}, **section}
    text = yaml.safe_dump({"version": 1, "platforms": {"a": supplied(preset(name))}, "reconcile": {"a": own}})
    return loads(text, path="config.yaml", environ={})


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_of_each_platform_is_read(name: str, tmp_path: Path) -> None:
    """The pages are asked for in the platform's form, and an order's key, status and time are read."""
    section = {"platform": {"url": SHOP[name]}} if name in SHOP else {}
    config = configured(name, **section)
    wanted = comparison(config, "a", run="r", window=Window(NOW - 86400, NOW), folder=str(tmp_path))
    source = wanted.shown.source
    assert isinstance(source, PagedSource)
    document, expected = ORDERS[name]
    asked: list[str] = []

    def ask(question: Question) -> PlatformReply:
        asked.append(question.page)
        return page_of(document if len(asked) == 1 else {}, PlatformReply("ok", 200), where)

    where = ReadOfAnswer(source.items_at, source.cursor, (wanted.shown.key, wanted.shown.status, wanted.shown.at))
    zone = ZoneInfo(wanted.tz)
    records = PagedRecords(source, since=wanted.since, until=wanted.until, zone=zone, ask=ask)
    if name == "woocommerce-batch":  # its answer is the list itself, so the end is an empty list
        document, rows = [*document], []
        records = PagedRecords(
            source, since=wanted.since, until=wanted.until, zone=zone,
            ask=lambda question: page_of(
                document if question.page.find("page=1&") > 0 else [], PlatformReply("ok", 200), where
            ),
        )  # fmt: skip
    rows = [RowReader(wanted.shown, wanted, now=NOW).read(values, fault) for _, values, fault in records]
    assert [(row.key, row.status, row.at, row.fault) for row in rows] == [(*expected, "")]
    url = filled(source.url, {"since": wanted.since, "until": wanted.until}, source.page, zone)
    assert ("2027-01-14T08%3A00%3A00Z" if name in SHOP else "2027-01-14%2016%3A00%3A00") in url


def test_a_file_takes_the_place_of_pages() -> None:
    """Whoever gives a file gets nothing of the preset's pages, and keeps its words; wechat-shipping knows no pages."""
    for name in ("taobao-logistics", "wechat-shipping"):
        settings = configured(name, platform={"file": "shown.csv"}).reconcile["a"]
        assert (settings.platform.file, settings.platform.url) == ("shown.csv", None)
        assert settings.status_map.platform
        assert settings.tz == "Asia/Shanghai"
    assert configured("wechat-shipping", platform={"file": "shown.csv"}).platforms["a"].confirm is not None
