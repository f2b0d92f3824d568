"""The nights of docs/operations.md in the console: from the overview on each is read and acted on in two clicks."""

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.error import HTTPError

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.console.browser_side import Relay, log_in, running, shown, until


@dataclass
class Clicks:
    """Counts the clicks of one night."""

    page: Page
    made: int = 0

    def on(self, place: Locator) -> None:
        """Click."""
        self.made += 1
        place.click()

    def asked(self) -> None:
        """Whatever was clicked last asks for a reason; leave it at that."""
        dialog = self.page.locator("dialog[data-confirm]")
        expect(dialog.locator('[name="reason"]')).to_be_visible()
        dialog.locator('[data-action="cancel"]').click()
        assert self.made <= 2


def _overview(page: Page, relay: Relay) -> Clicks:
    page.goto(f"{relay.admin}/ui/")
    shown(page, "overview")
    return Clicks(page)


def test_each_night_takes_two_clicks(page: Page, relay: Relay) -> None:
    """Down, rejected, held, an expired token, a reload that was refused, a limit that nobody announced."""
    relay.post_many("shop-l", [{"order_id": f"L-{number}"} for number in range(300)])
    relay.post("shop-t", {"order_id": "T-1"})
    relay.post("shop-h", {"order_id": "H-1"})
    until(lambda: relay.ask("GET", "/v1/platforms/shop-h")["held"] > 0, "an answer that no rule knows")
    log_in(page, relay, "operator")
    shown(page, "overview")

    down = page.locator('[data-platform="shop-c"]')
    expect(down.locator('[data-field="state"]')).to_have_text("broken")
    expect(down.locator('[data-field="reason"]')).to_contain_text("connection refused")
    night = Clicks(page)
    night.on(down.locator("a").first)
    shown(page, "platform")
    night.on(page.locator('[data-action="resume"]'))
    night.asked()

    night = _overview(page, relay)
    expect(page.locator('[data-platform="shop-b"] [data-field="dead"]')).to_contain_text("5")
    night.on(page.locator('nav a[href="/ui/dead-letters"]'))
    rejected = page.locator("[data-group]").filter(has_text="shop-b").first
    expect(rejected.locator('[data-field="reason"]')).to_contain_text("422")
    night.on(rejected.locator('[data-action="retry"]'))
    night.asked()

    night = _overview(page, relay)
    expect(page.locator('[data-platform="shop-h"] [data-field="held"]')).to_have_text("1")
    night.on(page.locator('nav a[href="/ui/dead-letters"]'))
    held = page.locator("[data-group]").filter(has_text="shop-h").first
    night.on(held.locator('[data-action="resolve"]').first)
    night.asked()

    night = _overview(page, relay)
    expired = page.locator('[data-platform="shop-t"]')
    expect(expired.locator('[data-field="state"]')).to_have_text("broken")
    expect(expired.locator('[data-field="reason"]')).to_contain_text("errcode=40001")
    expect(expired.locator('[data-field="until"]')).not_to_be_empty()
    night.on(expired.locator("a").first)
    shown(page, "platform")
    night.on(page.locator('[data-action="resume"]'))
    night.asked()

    kept = relay.file.read_text(encoding="utf-8")
    relay.file.write_text(kept.replace("100/min", "100/mn"), encoding="utf-8")
    relay.text("/v1/config/reload", "POST", refused=True)
    night = _overview(page, relay)
    night.on(page.locator('nav a[href="/ui/config"]'))
    expect(page.locator("main .note.bad").first).to_contain_text("The last reload was refused")
    night.on(page.locator('[data-action="reload"]'))
    expect(page.locator("main .note.bad li").first).to_contain_text("100/mn")
    assert night.made <= 2
    relay.file.write_text(kept, encoding="utf-8")
    relay.text("/v1/config/reload", "POST")

    night = _overview(page, relay)
    until(lambda: relay.ask("GET", "/v1/platforms/shop-l")["learned_limit"]["source"] == "learned", "a limit is found")
    learned = page.locator("main .note").filter(has_text="shop-l")
    expect(learned.locator("code")).to_contain_text("rate: ")
    night.on(learned.locator("a"))
    shown(page, "platform")
    expect(page.locator("[data-try]")).to_be_visible()
    assert night.made == 1
    relay.text("/v1/platforms/shop-l/pause", "POST")  # other tests read totals that stand still


def _post_for_ever(relay: Relay) -> None:
    """Post what dies at once, each when the one before is dead."""
    for number in count():
        relay.post("shop-f", {"order_id": f"F-{number}", "note": "x" * 200_000})
        relay.until_total("dead", number + 1)


def test_a_full_store_takes_two_clicks(page: Page, tmp_path: Path) -> None:
    """The overview says so; a group of dead letters that nobody needs makes room."""
    with running(tmp_path, users=False, max_size="1MiB") as relay:
        with pytest.raises(HTTPError, match="503"):
            _post_for_ever(relay)
        night = _overview(page, relay)
        expect(page.locator("main")).to_contain_text("The store is full: posts are refused until something ends.")
        night.on(page.locator('nav a[href="/ui/dead-letters"]'))
        group = page.locator("[data-group]").filter(has_text="shop-f").first
        night.on(group.locator('[data-action="drop"]'))
        night.asked()
