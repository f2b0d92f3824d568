"""Answers what a comparison asks of a platform, with the platform's own terms; with or without a running daemon."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from string import Formatter
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import msgspec

from relay.config.schema.file import Config
from relay.config.schema.reconcile import ReconcileSettings
from relay.config.schema.reconcile_source import ComparedSource
from relay.core.clock import Clock, wall_s
from relay.core.errors import RelayError
from relay.core.raw import JsonObject
from relay.daemon.stores import open_store, open_tokens
from relay.delivery.asking.inquirer import Inquirer
from relay.delivery.auth import Credentials
from relay.delivery.pipeline import Pipeline
from relay.delivery.registry import Registry
from relay.delivery.sender import HttpSender, Outbound
from relay.delivery.terms import Terms, compile_all
from relay.reconcile.job import PlatformReply, Question
from relay.telemetry.events import Events
from relay.views.callback_view import CallbackView
from relay.wire.payload.target import TemplateFields

if TYPE_CHECKING:  # what compares is loaded where something is compared
    from relay.reconcile.sources.orders_told import ReadOfAnswer

PATIENCE_S = 900.0  # so long a question waits for a slot: a window of some minutes opens meanwhile
_GRACE_S = 5.0


class CallbackPayloads(Protocol):
    """The part of a store that questions need."""

    clock: Clock

    def callback(self, callback_id: str, *, payload: bool = False) -> Awaitable[CallbackView | None]:
        """Return one callback, with ``payload`` also its bytes."""
        ...


class Questions:
    """Asks platforms for pages and single orders; keeps the budget of each over all its runs."""

    def __init__(
        self, *, config: Callable[[], Config], find: Callable[[str], Pipeline | None], ledger: CallbackPayloads
    ) -> None:
        self._config = config
        self._find = find
        self._ledger = ledger
        self._inquirers: dict[str, Inquirer] = {}
        self._settings: dict[str, ReconcileSettings] = {}

    async def answer(self, platform: str, question: Question, *, within_s: float = PATIENCE_S) -> PlatformReply:
        """Return what the platform says. Raises ``KeyError`` for a platform that is not compared."""
        settings = self._config().reconcile[platform]
        inquirer = self._inquirer(platform, settings)
        try:
            if question.page:
                check_page(question.page, settings.platform)
                told = await inquirer.page(question.page, within_s=within_s)
            else:
                told = await inquirer.order(await self._fields(question, settings), within_s=within_s)
        except RelayError as error:
            return PlatformReply(outcome="unsent", reason=str(error))
        reply = PlatformReply(told.outcome, told.status, link=told.link, reason=told.reason)
        if told.document is None:
            return reply
        from relay.reconcile.sources.orders_told import order_of, page_of

        read = page_of if question.page else order_of
        return await asyncio.to_thread(read, told.document, reply, _read_of(settings))  # a page may have 32 MiB

    def _inquirer(self, platform: str, settings: ReconcileSettings) -> Inquirer:
        known = self._settings.get(platform)
        if known is None or known.budget != settings.budget:
            self._inquirers[platform] = Inquirer(
                lambda: self._find(platform), clock=self._ledger.clock, budget=settings.budget
            )
            self._settings[platform] = settings
        return self._inquirers[platform]

    async def _fields(self, question: Question, settings: ReconcileSettings) -> TemplateFields:
        """Return what ``confirm`` may use: the relay's newest callback of the order, else the order's number alone."""
        if question.callback:
            found = await self._ledger.callback(question.callback, payload=True)
            if found is not None and isinstance(found.payload, bytes):
                return TemplateFields(found.payload, question.order, found.event, found.id)
        columns = settings.columns
        names = {where.key for where in (columns.of_order_center(), columns.of_platform(), columns.of_relay())}
        payload = msgspec.json.encode(_nested(names, question.order))
        return TemplateFields(payload, question.order, None, "")


def _nested(names: Iterable[str], value: str) -> JsonObject:
    """Return an object that has ``value`` at each dotted name: ``order.id`` as ``{"order": {"id": ...}}``."""
    made: JsonObject = {}
    for name in names:
        *parents, last = name.split(".")
        at = made
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = value
    return made


def _read_of(settings: ReconcileSettings) -> "ReadOfAnswer":
    from relay.reconcile.sources.orders_told import ReadOfAnswer

    source, columns = settings.platform, settings.columns.of_platform()
    following = source.next
    return ReadOfAnswer(
        items_at="" if source.items_at is None else source.items_at.expression,
        cursor="" if following is None or following.cursor is None else following.cursor.expression,
        columns=(columns.key, columns.status, columns.at, *columns.also),
    )


def check_page(url: str, source: ComparedSource) -> None:
    """Let nobody have the platform's login sent elsewhere, or another of its pages read. Raises ``RelayError``.

    Only the query may be another one. A platform that links its pages says itself where the next one is.
    """
    asked, own = urlsplit(url), urlsplit(source.url or "")
    by_link = source.next is not None and source.next.link
    if asked[:2] != own[:2] or not (by_link or re.fullmatch(_path_of(own.path), asked.path)):
        raise RelayError("the page is none of the configured platform's")


def _path_of(template: str) -> str:
    """Return a pattern for the paths that a URL's path becomes with its places filled."""
    parts = ((re.escape(text), "[^/]*" if name is not None else "") for text, name, _, _ in Formatter().parse(template))
    return "".join(text + place for text, place in parts)


@asynccontextmanager
async def questions_alone(config: Config, platform: str, *, events: Events) -> AsyncIterator[Questions]:
    """Ask a platform while no daemon runs: under the same limits, which are recorded in the same store.

    Raises ``StoreLocked`` where a daemon runs after all.
    """
    agent = "callback-relay"
    async with AsyncExitStack() as stack:
        store = await open_store(config, events)
        stack.push_async_callback(store.close)
        await store.configure(config.store_rules())
        credentials = Credentials(
            sender=HttpSender(
                concurrency=1, user_agent=agent, outbound=Outbound(denied=config.outbound.compiled().why_denied)
            ),
            store=open_tokens(config),
            clock=store.clock,
            events=events,
        )
        stack.push_async_callback(credentials.close)

        def open_sender(terms: Terms) -> HttpSender:
            return HttpSender(concurrency=terms.concurrency, user_agent=agent, outbound=terms.outbound)

        registry = Registry(
            outbox=store,
            clock=store.clock,
            wall=wall_s,
            events=events,
            rng=random.Random(),
            open_sender=open_sender,
            authoriser=credentials.authoriser,
        )
        stack.push_async_callback(registry.stop, _GRACE_S)
        terms = next(each for each in compile_all(config) if each.platform == platform)
        gates = await store.gates()
        pipeline, sender = registry.make(terms, gates.get(platform, {}))
        stack.push_async_callback(sender.close)
        yield Questions(config=lambda: config, find=lambda _: pipeline, ledger=store)
        await store.set_gate(platform, pipeline.kept())
