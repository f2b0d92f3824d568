"""Runs the store's writing thread in step with the virtual loop: as a greenlet that is woken by timers.

Its code is the store's own. It waits in ``get`` and comes back at the moment that ``delay_s`` says, which is how long
the disk takes; until it waits again, nothing else moves. So a run is the same each time.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from queue import Empty
from typing import Any

import greenlet


class Gone(BaseException):
    """The process of this thread is gone."""


class LockstepThread:
    """Stands in for ``threading.Thread``."""

    def __init__(self, *, target: Callable[[], None], name: str = "", daemon: bool = False) -> None:
        self._work = greenlet.greenlet(target)
        self._work.gr_context = contextvars.copy_context()
        self._hub: greenlet.greenlet | None = None

    def start(self) -> None:
        """Run until it waits for the first time."""
        self.go_on()

    def join(self) -> None:
        """Return when it has ended, which it has: whoever joins was told so by it."""
        assert self._work.dead

    def go_on(self) -> None:
        """Run until it waits again, or ends."""
        self._hub = greenlet.getcurrent()
        self._work.parent = self._hub
        self._work.switch()

    def wait(self) -> None:
        """Give control back to the loop; called on the thread."""
        assert self._hub is not None
        self._hub.switch()


class LockstepQueue:
    """Stands in for ``queue.SimpleQueue`` between the loop and one ``thread``, which is set before it starts."""

    thread: LockstepThread

    def __init__(self, delay_s: Callable[[], float]) -> None:
        self._delay_s = delay_s
        self._items: deque[Any] = deque()
        self._waits = False
        self._coming = False
        self._gone = False

    def put(self, item: Any) -> None:
        """Queue something; the thread sees it when the disk is done with what came before."""
        self._items.append(item)
        if not self._coming:
            self._coming = True
            asyncio.get_running_loop().call_later(self._delay_s(), self._wake)

    def get_nowait(self) -> Any:
        """Take the next thing; raises ``Empty``."""
        if not self._items:
            raise Empty
        return self._items.popleft()

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the next thing, at most ``timeout`` virtual seconds."""
        timer = None
        late = False

        def give_up() -> None:
            nonlocal late
            late = True
            self._run()

        if timeout is not None and not self._items:
            timer = asyncio.get_running_loop().call_later(timeout, give_up)
        while not self._items and not late:
            self._waits = True
            self.thread.wait()
            self._waits = False
            if self._gone:
                raise Gone
        if timer is not None:
            timer.cancel()
        return self.get_nowait()

    def end(self) -> None:
        """End the thread where it waits, as the end of its process does."""
        self._gone = True
        self._run()

    def _wake(self) -> None:
        self._coming = False
        self._run()

    def _run(self) -> None:
        if self._waits:
            self.thread.go_on()
