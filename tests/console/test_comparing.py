"""The comparison with the order center, begun by hand and read on its page."""

from playwright.sync_api import Page, expect
from tests.console.browser_side import Relay, log_in, shown


def test_both_sides_are_compared_at_once(page: Page, relay: Relay) -> None:
    """A button begins it; what it found stands there without a reload: each kind, each order, what to do."""
    log_in(page, relay, "operator", "/ui/reconcile")
    shown(page, "reconcile")
    page.locator('[data-action="reconcile"]').filter(has_text="shop-e").click()
    expect(page.locator("[data-result]")).to_contain_text("shop-e")
    missing = page.locator('[data-kind="missing"]')
    expect(missing).to_contain_text("E-1", timeout=60_000)
    expect(page.locator('[data-kind="behind"]')).to_contain_text("E-2")
    run = page.locator("[data-run]").first
    expect(run).to_contain_text("shop-e")
    run.locator("a").click()
    shown(page, "reconcile")
    expect(page.locator('[data-kind="missing"]')).to_contain_text("not_posted")
