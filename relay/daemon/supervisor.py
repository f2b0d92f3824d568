"""Watches root tasks and threads.

If one ends that should run for ever, the process ends, and systemd starts it again.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any


class Supervisor:
    """Runs root tasks until a signal asks to stop, one of them ends, or a thread ends by an error."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []
        self._stop = asyncio.Event()
        self._fault: BaseException | None = None  # of a thread
        self.reason = ""

    def run(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        """Start a root task; its end, by return or exception, ends ``wait``."""
        self._tasks.append(asyncio.create_task(work, name=name))

    @contextmanager
    def watching_threads(self) -> Iterator[None]:
        """End ``wait`` if any thread of the process ends by an uncaught error."""
        loop, before = asyncio.get_running_loop(), threading.excepthook

        def ended(found: threading.ExceptHookArgs) -> None:
            name = found.thread.name if found.thread is not None else "?"
            loop.call_soon_threadsafe(self._thread_ended, name, found.exc_value or found.exc_type())

        threading.excepthook = ended
        try:
            yield
        finally:
            threading.excepthook = before

    def on_signal(self, number: signal.Signals, act: Callable[[], None] | None = None) -> None:
        """Stop on the signal, or call ``act``."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(number, act or (lambda: self.stop(number.name)))

    def stop(self, reason: str) -> None:
        """Ask ``wait`` to return."""
        self.reason = self.reason or reason
        self._stop.set()

    async def stopped_within(self, seconds: float) -> bool:
        """Wait at most ``seconds``; return whether there was a request to stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True

    async def wait(self) -> BaseException | None:
        """Return None after a request to stop, or what ended the task or thread that should not have ended."""
        stop = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait([stop, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        for task in done - {stop}:
            self.reason = f"{task.get_name()} ended"
            return task.exception() or RuntimeError(f"root task {task.get_name()!r} returned")
        return self._fault

    async def cancel(self) -> None:
        """End all root tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _thread_ended(self, name: str, error: BaseException) -> None:
        self._fault = self._fault or error
        self.stop(f"thread {name} ended")
