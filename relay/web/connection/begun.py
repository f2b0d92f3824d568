"""A request that needs no task of its own: its handler began the work, and a call makes the answer once that is done.

A task for each request costs a third of what a post of one callback costs in all. Such a post needs none: its body
came with its head, all that is to be checked is checked at once, and then it waits for one thing, its commit.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from relay.web.response import Response


class Begun(NamedTuple):
    """What a handler began."""

    done: "asyncio.Future[Any]"
    # Called once ``done`` has ended. Raises what a handler may raise. Returns an awaitable where the answer needs more
    # waiting, which a task does then.
    answer: Callable[[], Response | Awaitable[Response]]
