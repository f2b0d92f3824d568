"""``make screenshots``: pictures of the console over a real daemon, for docs/img."""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page
from tests.console.browser_side import Relay, chromium, running, shown

SIZE = {"width": 1180, "height": 760}


def _fill(relay: Relay) -> str:
    """Post something of every kind; return the id of a callback that waits."""
    for number in range(150):
        relay.post("shop-a", {"order_id": f"A-{number}"})
    for number in range(6):
        relay.post("shop-b", {"order_id": f"B-{number}"}, **{"Relay-Event": "order.shipped"})
    for number in range(3):
        relay.post("shop-c", {"order_id": f"C-{990 + number}"}, **{"Relay-Event": "order.paid"})
    waits = relay.post("shop-c", {"order_id": "C-991", "phone": "13812345678"}, **{"Relay-Event": "order.shipped"})
    relay.until_total("dead", 6)
    relay.until_total("delivered", 100)
    return waits


def _take(page: Page, address: str, name: str, path: Path, theme: str = "light", language: str = "en") -> None:
    page.goto(address)
    page.evaluate(
        "([theme, lang]) => { localStorage.setItem('relay.theme', theme); localStorage.setItem('relay.lang', lang) }",
        [theme, language],
    )
    page.reload()
    shown(page, name)
    page.screenshot(path=path)


def main(folder: Path) -> None:
    """Write the pictures into ``folder``."""
    with tempfile.TemporaryDirectory() as kept, running(Path(kept), users=False) as relay, chromium() as browser:
        waits = _fill(relay)
        page = browser.new_page(viewport=SIZE)
        ui = f"{relay.admin}/ui"
        _take(page, f"{ui}/", "overview", folder / "overview.png")
        _take(page, f"{ui}/", "overview", folder / "overview.zh-CN.png", "dark", "zh-CN")
        _take(page, f"{ui}/dead-letters", "dead-letters", folder / "dead-letters.png")
        _take(page, f"{ui}/platforms/shop-a", "platform", folder / "platform.png")
        _take(page, f"{ui}/callbacks/{waits}", "callback", folder / "callback.png", "dark")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
