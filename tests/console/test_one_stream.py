"""Figures that change by themselves: in every tab, over one stream."""

from playwright.sync_api import Page, expect
from tests.console.browser_side import Relay, log_in, shown

TABS = 8  # more than the six connections that a browser opens to one server


def test_many_tabs_share_one_stream_and_all_of_them_follow(page: Page, relay: Relay) -> None:
    """A callback posted meanwhile is seen in each; closing the tab that reads passes that on."""
    streams: list[str] = []
    page.context.on("request", lambda each: streams.append(each.url) if each.url.endswith("/v1/events") else None)
    log_in(page, relay, "viewer")
    shown(page, "overview")
    tabs = [page.context.new_page() for _ in range(TABS - 1)]
    for tab in tabs:
        tab.goto(f"{relay.admin}/ui/")
        shown(tab, "overview")

    def posted_and_seen(by: list[Page]) -> None:
        relay.post("shop-e", {"order_id": "E-1"})
        total = relay.ask("GET", "/v1/ledger")["total"]["accepted"]
        for tab in by:
            expect(tab.locator('[data-ledger="accepted"]')).to_have_attribute("data-value", str(total))

    posted_and_seen([page, *tabs])
    assert len(streams) == 1
    page.close()
    posted_and_seen(tabs)
    assert len(streams) == 2
