"""Hands a message to the library apprise (extra ``alerts``), which knows mail, SMS and a hundred other ways.

It stands where an HTTP sender stands for other targets, so that limits, retries and account are the same. The library
is imported when the first message goes, and works in a thread of its own: it blocks.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Protocol

import msgspec

from relay.wire.answers.answer import Answer, Failure, Headers


class MessageRequest(Protocol):
    """The part of a request that counts here: ``body`` is JSON with ``title`` and ``body``."""

    @property
    def body(self) -> bytes:
        """The message."""
        ...

    @property
    def timeout_s(self) -> float:
        """How long it may take."""
        ...


class AppriseSender:
    """Sends to one apprise address, one message after the other."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="apprise")
        # What it logs may hold an address with its password; what matters of it, whether it worked, we tell ourselves.
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)

    async def send(self, request: MessageRequest) -> Answer | Failure:
        """Send one message; apprise tells only whether it worked, which becomes a 200 or a 502."""
        message = msgspec.json.decode(request.body, type=dict[str, str])
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(request.timeout_s):
                sent = await loop.run_in_executor(self._thread, self._notify, message)
        except TimeoutError:
            return Failure("timeout", connected=True, detail=f"timeout after {request.timeout_s:g} s")
        except Exception as error:  # noqa: BLE001 - a foreign library of a hundred plugins; its words may hold the address
            return Failure("unreachable", connected=False, detail=f"apprise failed: {type(error).__name__}")
        return Answer(200 if sent else 502, Headers([]), b"")

    async def close(self) -> None:
        """Wait for nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _notify(self, message: dict[str, str]) -> bool:
        notifier = import_module("apprise").Apprise()
        return bool(notifier.add(self._url) and notifier.notify(title=message["title"], body=message["body"]))
