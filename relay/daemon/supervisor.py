"""Root tasks: when one ends that should run for ever, the process ends and systemd starts it again."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any


class Supervisor:
    """Runs root tasks until a signal asks to stop or one of them ends."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []
        self._stop = asyncio.Event()
        self.reason = ""

    def run(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        """Start a root task; its end, by return or exception, ends ``wait``."""
        self._tasks.append(asyncio.create_task(work, name=name))

    def on_signal(self, number: signal.Signals, act: Callable[[], None] | None = None) -> None:
        """Stop on the signal, or call ``act``."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(number, act or (lambda: self.stop(number.name)))

    def stop(self, reason: str) -> None:
        """Ask ``wait`` to return."""
        self.reason = self.reason or reason
        self._stop.set()

    async def wait(self) -> BaseException | None:
        """Return None after a request to stop, or what ended the root task that should not have ended."""
        stop = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait([stop, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        for task in done - {stop}:
            self.reason = f"{task.get_name()} ended"
            return task.exception() or RuntimeError(f"root task {task.get_name()!r} returned")
        return None

    async def cancel(self) -> None:
        """End all root tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
