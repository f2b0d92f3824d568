"""axe-core finds no violation of WCAG 2 A and AA on any page, in either theme (https://github.com/dequelabs/axe-core)."""

from pathlib import Path

from playwright.sync_api import Page
from tests.console.browser_side import Relay, log_in, shown
from tests.console.test_looking import PAGES

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
RUN = """async () => {
    const found = [];
    for (const theme of ["light", "dark"]) {
        document.documentElement.dataset.theme = theme;
        const { violations } = await axe.run({ runOnly: ["wcag2a", "wcag2aa"] });
        found.push(...violations.map(each => [theme, each.id, each.nodes.map(node => node.html)]));
    }
    return found;
}"""


def test_no_violation_on_any_page_in_either_theme(page: Page, relay: Relay) -> None:
    """The login, every page, and the dialog of a change."""
    callback = relay.ask("GET", "/v1/callbacks?platform=shop-c&limit=1")["items"][0]["id"]
    axe = AXE.read_text(encoding="utf-8")
    found = {}

    def look(name: str) -> None:
        page.evaluate(axe)  # not as a script of the page: the policy would refuse it
        found[name] = page.evaluate(RUN)

    page.goto(f"{relay.admin}/ui/")
    shown(page, "login")
    look("login")
    log_in(page, relay, "operator")
    shown(page, "overview")
    for name, path in {"callback": f"/ui/callbacks/{callback}", **PAGES, "platform": "/ui/platforms/shop-a"}.items():
        page.goto(f"{relay.admin}{path}")
        shown(page, name)
        look(name)
    page.goto(f"{relay.admin}/ui/platforms/shop-a")
    page.click('[data-action="limit"]')
    page.locator("dialog").wait_for()
    look("dialog")

    assert {name: each for name, each in found.items() if each} == {}
