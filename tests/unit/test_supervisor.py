"""What ends the process: a root task or a thread that should have gone on, or a request to stop."""

import asyncio
import threading

from relay.core.errors import StoreEnded
from relay.daemon.supervisor import Supervisor


async def test_end_of_a_root_task() -> None:
    """Its error is what ended the process, and its name the reason; a return counts as an end too."""
    for fault, told in ((StoreEnded("the thread ended"), StoreEnded), (None, RuntimeError)):
        supervisor = Supervisor()

        async def work(fault: BaseException | None = fault) -> None:
            if fault is not None:
                raise fault

        supervisor.run("store", work())
        assert isinstance(await asyncio.wait_for(supervisor.wait(), 20), told)
        assert supervisor.reason == "store ended"


async def test_end_of_a_thread() -> None:
    """An error that nobody caught in any thread ends the process and names the thread; others end as they like."""
    supervisor = Supervisor()
    before = threading.excepthook

    def fails() -> None:
        raise ValueError("a bug")

    with supervisor.watching_threads():
        supervisor.run("for ever", asyncio.Event().wait())
        quiet = threading.Thread(target=lambda: None)
        quiet.start()
        quiet.join()
        threading.Thread(target=fails, name="worker").start()
        fault = await asyncio.wait_for(supervisor.wait(), 20)
    await supervisor.cancel()
    assert isinstance(fault, ValueError)
    assert supervisor.reason == "thread worker ended"
    assert threading.excepthook is before


async def test_request_to_stop() -> None:
    """A signal's name is the reason and nothing is at fault."""
    supervisor = Supervisor()
    supervisor.run("for ever", asyncio.Event().wait())
    supervisor.stop("SIGTERM")
    assert await asyncio.wait_for(supervisor.wait(), 20) is None
    assert supervisor.reason == "SIGTERM"
    await supervisor.cancel()
