"""One daemon with callbacks of every kind for all tests of the console, and a browser for each.

A browser that outlives its test would keep playwright's event loop running under the asyncio tests of the same worker.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from tests.console.browser_side import Relay, chromium, running
from tests.installed import installed

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>'


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Debian's chromium."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A daemon whose platforms take, refuse and are down."""
    installed("chromium", package="chromium")
    with running(Path(tmp_path_factory.mktemp("console"))) as found:
        for number in range(3):
            found.post("shop-a", {"order_id": f"A-{number}"})
        for number in range(4):
            found.post("shop-b", {"order_id": f"B-{number}", "phone": "13812345678"})
        found.post("shop-b", {HOSTILE: HOSTILE}, **{"Relay-Event": HOSTILE, "Relay-Key": HOSTILE})
        for _ in range(2):
            found.post("shop-c", {"order_id": "C-991"})
        found.until_total("delivered", 3)
        found.until_total("dead", 5)
        yield found


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab of its own, in English, that may raise no error and break no policy."""
    context = browser.new_context(locale="en-US", color_scheme="light")
    tab = context.new_page()
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda told: wrong.append(told.text) if "Content Security Policy" in told.text else None)
    yield tab
    context.close()
    assert wrong == []
