"""Work that would hold up the event loop: done in a thread where there is much of it, at once where there is little."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, TypeVar

T = TypeVar("T")

BUILT_BYTES: Final = 64 * 1024
"""Of payloads that must be looked into: a millisecond, or a hundred."""
READ_BYTES: Final = 8 * 1024
"""Of an answer: what is looked for in a smaller one is found in a few milliseconds, whatever it holds."""


async def beside(executor: Executor, work: Callable[[], T], *, size: int, most: int) -> T:
    """Return what ``work`` returns, and raise what it raises; above ``most`` bytes it is done by the executor."""
    if size > most:
        return await asyncio.get_running_loop().run_in_executor(executor, work)
    return work()
