"""Asks the platform for the command: through the daemon where one runs, which holds the limits; else by itself."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import cast

import msgspec

from relay.cli.support.client import Client, Unreachable
from relay.cli.support.locate import Place
from relay.config.schema.file import Config
from relay.reconcile.job import PlatformReply, Question
from relay.reconcile.launch import Ask


@asynccontextmanager
async def asking(config: Config, platform: str, place: Place) -> AsyncIterator[Ask]:
    """Return what asks the platform. Nothing is opened before the first question."""
    client: Client = place.admin_client(waits=True)
    async with AsyncExitStack() as stack:
        alone: Ask | None = None

        async def ask(question: Question) -> PlatformReply:
            nonlocal alone
            if alone is None:
                try:
                    return await asyncio.to_thread(_through_daemon, client, platform, question)
                except Unreachable:
                    alone = await stack.enter_async_context(_alone(config, platform))
            return await alone(question)

        yield ask


def _through_daemon(client: Client, platform: str, question: Question) -> PlatformReply:
    body = {"platform": platform, **cast(dict[str, str], msgspec.to_builtins(question))}
    return msgspec.convert(client.post("/v1/reconciliations/questions", body), PlatformReply)


@asynccontextmanager
async def _alone(config: Config, platform: str) -> AsyncIterator[Ask]:
    from relay.daemon.reconciling.inquiries import questions_alone  # loads the store and the HTTP client
    from relay.telemetry.events import Events
    from relay.telemetry.logging import make_logger
    from relay.telemetry.metrics import Metrics

    events = Events(log=make_logger(file=sys.stderr.buffer, level="warning"), metrics=Metrics())
    async with questions_alone(config, platform, events=events) as questions:

        async def ask(question: Question) -> PlatformReply:
            return await questions.answer(platform, question)

        yield ask
