"""Starts the process that compares, answers what it asks and yields what it finds, line by line."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.util import find_spec
from typing import Final

import msgspec

from relay.core.errors import RelayError
from relay.reconcile.job import Comparison, PlatformReply, Question
from relay.reconcile.results import DifferenceLine, RunSummary

_MODULE: Final = "relay.daemon.reconciling.reconcile_child"
_SHOWN_CHARACTERS = 500  # of what the process says when it fails
_LONGEST_LINE = 16 * 2**20

Ask = Callable[[Question], Awaitable[PlatformReply]]


async def differences(wanted: Comparison, ask: Ask) -> AsyncIterator[DifferenceLine | RunSummary]:
    """Yield each difference, then the summary. Raises ``RelayError`` where the comparison itself fails."""
    if find_spec("duckdb") is None:
        raise RelayError("reconcile needs the library duckdb: install callback-relay[reconcile]")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", _MODULE), stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=_LONGEST_LINE
    )
    assert child.stdin is not None, "a pipe was asked for"
    assert child.stdout is not None, "a pipe was asked for"
    assert child.stderr is not None, "a pipe was asked for"
    words = asyncio.create_task(child.stderr.read())
    try:
        child.stdin.write(msgspec.json.encode(wanted) + b"\n")
        while line := await child.stdout.readline():
            told = msgspec.json.decode(line)
            if "ask" in told:
                reply = await ask(msgspec.convert(told["ask"], Question))
                child.stdin.write(msgspec.json.encode(reply) + b"\n")
                await child.stdin.drain()
            else:
                yield told
        said = (await words).decode(errors="replace").strip()
        code = await child.wait()
    finally:
        words.cancel()
        if child.returncode is None:  # who reads here stopped early
            child.kill()
            await child.wait()
    if code != 0:
        raise RelayError(f"the comparison failed: {said[-_SHOWN_CHARACTERS:]}")
