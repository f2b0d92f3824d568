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


REACHABLE = """() => [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
    .filter(each => !each.disabled && each.checkVisibility({ visibilityProperty: true }))
    .map((each, place) => each.dataset.reach = place).length"""


def test_everything_is_reached_by_the_tab_key(page: Page, relay: Relay) -> None:
    """On every page each link, button and field gets the focus in turn, and it shows."""
    callback = relay.ask("GET", "/v1/callbacks?platform=shop-c&limit=1")["items"][0]["id"]
    log_in(page, relay, "operator")
    shown(page, "overview")
    for name, path in {"callback": f"/ui/callbacks/{callback}", **PAGES, "platform": "/ui/platforms/shop-a"}.items():
        page.goto(f"{relay.admin}{path}")
        shown(page, name)
        page.locator("body").evaluate("each => each.focus()")
        wanted = page.evaluate(REACHABLE)
        reached, outlined = set(), set()
        for _ in range(wanted + 20):
            page.keyboard.press("Tab")
            place, outline = page.evaluate(
                "[document.activeElement.dataset.reach, getComputedStyle(document.activeElement).outlineStyle]"
            )
            reached.add(place)
            outlined |= {outline} if place else set()
        missed = [place for place in range(wanted) if str(place) not in reached]
        # What an update has drawn anew since bears no number; a row drawn anew was tabbed to under none.
        told = [
            each.evaluate("each => each.outerHTML")
            for place in missed
            for each in page.locator(f"[data-reach='{place}']").all()
        ]
        assert (name, told) == (name, [])
        assert "none" not in outlined, name


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
