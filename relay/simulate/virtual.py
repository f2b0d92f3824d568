"""Virtual time: an event loop whose clock leaps to the next timer instead of waiting for it.

Code on it must use neither threads nor sockets: their work would take no virtual time.
"""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar, TypeVarTuple

from relay.core.errors import RelayError

_Result = TypeVar("_Result")
_Given = TypeVarTuple("_Given")


class Standstill(RelayError):
    """Every task waits and no timer is set, so nothing can happen any more."""

    def __init__(self, at_s: float) -> None:
        super().__init__(f"the simulation stands still at {at_s:.3f} s: everything waits and no timer is set")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that starts at 0.0 s and waits in no time. Its ``run`` raises ``Standstill``."""

    def __init__(self) -> None:
        self._at_s = 0.0
        super().__init__(_Leaping(self._leap))

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._at_s

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Given], _Result], *args: *_Given
    ) -> asyncio.Future[_Result]:
        """Call ``func`` at once, without a thread: the loop would not wait for one."""
        done: asyncio.Future[_Result] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is the caller's, as from a thread
            done.set_exception(error)
        return done

    def _leap(self, wait_s: float | None) -> None:
        if wait_s is None:
            raise Standstill(self._at_s)
        self._at_s += wait_s


class VirtualClock:
    """The relay clock in virtual time; ``start_at`` is its reading when the loop was made."""

    __slots__ = ("_loop", "_start_at")

    def __init__(self, loop: VirtualLoop, start_at: float) -> None:
        self._loop = loop
        self._start_at = start_at

    def now(self) -> float:
        """Return seconds on the relay clock."""
        return self._start_at + self._loop.time()


class _Leaping(selectors.SelectSelector):
    """Watches no file: it hands each wait to ``leap`` and returns at once."""

    def __init__(self, leap: Callable[[float | None], None]) -> None:
        super().__init__()
        self._leap = leap

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Leap over the wait. No file is ever ready."""
        if timeout is None or timeout > 0:
            self._leap(timeout)
        return []
