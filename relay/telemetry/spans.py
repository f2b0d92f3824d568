"""Spans for OpenTelemetry, sent by OTLP over HTTP (extra ``otel``): loaded only where ``telemetry.otlp`` is set.

There is a span for each accepted post, a child of the caller's ``traceparent``, and one for each request to a platform,
linked to the spans of its callbacks. The callbacks carry the context of the span that accepted them; so the trace of an
order goes from the order center through the post to each request that carried it.

Sampling: a caller's decision not to sample holds. Else the trace's id decides, in the same way everywhere (W3C Trace
Context level 2, the random trace id): with ``sample: 0.1`` one trace in ten. A request is sampled when one of its
callbacks was, or by its own id when none of them came with a context.

Nothing of this holds up a callback: what waits is bounded, what is too much is counted and left out. Spans hold no
payload, key or address; of a platform only its name.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from relay.core.clock import Clock, wall_s
from relay.core.errors import StoreError
from relay.core.model import Batch
from relay.core.settlement import AttemptResult
from relay.telemetry.events import Events

ReadContexts = Callable[[Sequence[int]], Awaitable[list[str]]]
"""Returns the ``traceparent`` of each of these callbacks, each context once. May raise ``StoreError``."""

_HEADER: Final = "traceparent"
_MOST_WAITING: Final = 2048  # spans, and requests whose callbacks' contexts are still to be read
_MOST_LINKS: Final = 128  # as the SDK's own bound
_EVERY_S: Final = 1.0
_PATIENCE_S: Final = 3.0  # for one export, also the last one: stopping waits for no receiver that is gone
_TOLD_EVERY_S: Final = 60.0
_IDS: Final = (1 << 56) - 1  # the random part of a trace id


class AcceptSpan:
    """The span of one post."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: Span, came_with: str | None) -> None:
        self._span = span
        self.traceparent = came_with
        """What the post's callbacks carry: the context of this span; if it is not sampled, what the post came with."""
        if span.is_recording():
            carrier: dict[str, str] = {}
            _W3C.inject(carrier, set_span_in_context(span))
            self.traceparent = carrier[_HEADER]

    def end(self, status: int, platform: str) -> None:
        """End it with the HTTP status that was answered."""
        self._span.set_attribute("http.response.status_code", status)
        if status < 400 and platform:  # else it may be any text
            self._span.set_attribute("relay.platform", platform)
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class Spans:
    """Makes spans and sends them until closed. All methods are called on the loop."""

    def __init__(
        self, *, url: str, sample: float, version: str, clock: Clock, events: Events, contexts: ReadContexts
    ) -> None:
        self._clock = clock
        self._events = events
        self._contexts = contexts
        self._sampler = _ByTrace(sample)
        self._waiting: deque[ReadableSpan] = deque()
        self._requests: asyncio.Queue[tuple[Batch, AttemptResult]] = asyncio.Queue(_MOST_WAITING)
        self._lost = 0
        self._told_at = -_TOLD_EVERY_S
        # What it logs of a receiver that is gone, we tell once a minute ourselves.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
        self._exporter = OTLPSpanExporter(f"{url.rstrip('/')}/v1/traces", timeout=_PATIENCE_S)
        provider = TracerProvider(
            sampler=self._sampler,
            resource=Resource({"service.name": "callback-relay", "service.version": version}),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(_Gather(self._ended))
        self._tracer = provider.get_tracer("callback-relay", version)

    def accept(self, traceparent: str | None) -> AcceptSpan:
        """Begin the span of a post that came with ``traceparent``."""
        context = _W3C.extract({} if traceparent is None else {_HEADER: traceparent}, Context())
        return AcceptSpan(self._tracer.start_span("accept", context, SpanKind.SERVER), traceparent)

    def attempt(self, batch: Batch, result: AttemptResult) -> None:
        """Make the span of a request that ended, as soon as its callbacks' contexts are read."""
        try:
            self._requests.put_nowait((batch, result))
        except asyncio.QueueFull:
            self._lost += 1

    async def run(self) -> None:
        """Make spans of requests, and send what there is every second, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._send())

    async def close(self) -> None:
        """Send what is left; waits for the receiver at most three seconds."""
        while not self._requests.empty():
            with suppress(StoreError):  # told by the store
                await self._request(*self._requests.get_nowait())
        await self._export()
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    async def _read(self) -> None:
        while True:
            try:
                await self._request(*await self._requests.get())
            except StoreError:  # told by the store; the span is left out
                self._lost += 1

    async def _request(self, batch: Batch, result: AttemptResult) -> None:
        found = [self._parsed(text) for text in await self._contexts([item.seq for item in batch.items])]
        sampled = [context for context in found if self._sampler.takes(context)]
        if found and not sampled:
            return
        ahead_s = wall_s() - self._clock.now()
        span = self._tracer.start_span(
            "deliver",
            Context(),
            SpanKind.CLIENT,
            attributes={
                "relay.platform": batch.platform,
                "relay.batch": batch.id,
                "relay.attempt": batch.attempt,
                "relay.callbacks": len(batch.items),
                "relay.outcome": result.outcome.value,
            },
            links=[Link(context) for context in sampled[:_MOST_LINKS]],
            start_time=_nanoseconds(result.ended_at - result.duration_s + ahead_s),
        )
        if result.status is not None:
            span.set_attribute("http.response.status_code", result.status)
        if not result.outcome.accepted:
            span.set_status(Status(StatusCode.ERROR, result.outcome.value))
        span.end(_nanoseconds(result.ended_at + ahead_s))

    def _parsed(self, traceparent: str) -> SpanContext:
        return get_current_span(_W3C.extract({_HEADER: traceparent}, Context())).get_span_context()

    def _ended(self, span: ReadableSpan) -> None:
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(span)
        else:
            self._lost += 1

    async def _send(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            await self._export()

    async def _export(self) -> None:
        spans = list(self._waiting)
        self._waiting.clear()
        if spans and await asyncio.to_thread(self._exporter.export, spans) is not SpanExportResult.SUCCESS:
            self._lost += len(spans)
        now = self._clock.now()
        if self._lost and now - self._told_at >= _TOLD_EVERY_S:
            self._events.spans_lost(count=self._lost)
            self._lost, self._told_at = 0, now


class _Gather(SpanProcessor):
    """Hands over each sampled span that ended."""

    def __init__(self, ended: Callable[[ReadableSpan], None]) -> None:
        self._take = ended

    def on_end(self, span: ReadableSpan) -> None:
        self._take(span)


class _ByTrace(Sampler):
    """Samples by the id of the trace; a request that is linked to a sampled callback always."""

    def __init__(self, ratio: float) -> None:
        self._bound = round(ratio * (_IDS + 1))

    def takes(self, context: SpanContext) -> bool:
        """Return whether a trace that came from outside is sampled."""
        return context.is_valid and context.trace_flags.sampled and context.trace_id & _IDS < self._bound

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: object = None,
        links: Sequence[Link] | None = None,
        trace_state: object = None,
    ) -> SamplingResult:
        """Decide for one span."""
        parent = get_current_span(parent_context).get_span_context()
        takes = self.takes(parent) if parent.is_valid else bool(links) or trace_id & _IDS < self._bound
        return SamplingResult(Decision.RECORD_AND_SAMPLE if takes else Decision.DROP, attributes)  # type: ignore[arg-type]

    def get_description(self) -> str:
        """Return a name for it."""
        return "by trace id"


_W3C: Final = TraceContextTextMapPropagator()


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
