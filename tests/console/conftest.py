"""One daemon with callbacks of every kind for all tests of the console, and one browser.

The browser ends with the last test of this folder: playwright's event loop, which runs as long as it, would be in the
way of the asyncio tests that the same worker takes next.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from tests.console.browser_side import Relay, chromium, running
from tests.installed import installed

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>'


_ENDS = ExitStack()
_BROWSERS: list[Browser] = []  # the one that runs


@pytest.fixture
def browser() -> Browser:
    """Debian's chromium."""
    if not _BROWSERS:
        _BROWSERS.append(_ENDS.enter_context(chromium()))
    return _BROWSERS[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Iterator[None]:
    """End the browser when the next test is none of the console's."""
    yield
    if nextitem is None or nextitem.path.parent != Path(__file__).parent:
        _BROWSERS.clear()
        _ENDS.close()


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
