"""Spans of a real daemon, as an OTLP receiver gets them: the trace of an order goes through the relay."""

import gzip
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from relay.standin.ports import free_port
from tests.e2e.harness import Process, until

pytestmark = pytest.mark.timeout(120)

ORDER, OTHER, UNSAMPLED = "a" * 32, "b" * 32, "c" * 32
CALLER = "1" * 16


class Side:
    """A receiver of spans and a platform in one."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.bodies: list[bytes] = []
        self.receives = True

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        if not self.receives:
            return web.Response(status=400)
        unpacked = gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body
        for resource in ExportTraceServiceRequest.FromString(unpacked).resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            assert names["service.name"] == "callback-relay"
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response()

    async def take(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        return web.Response(text="ok")

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture
async def side() -> AsyncIterator[tuple[Side, str]]:
    """The stand-ins, and their address."""
    made = Side()
    app = web.Application()
    app.router.add_post("/v1/traces", made.receive)
    app.router.add_post("/platform", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield made, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_an_order_is_traced_through_the_relay(side: tuple[Side, str], tmp_path: Path) -> None:
    """Posts are children of their callers' spans, the request links to both; a caller's no is a no.

    A receiver that is gone holds up nothing, and the log says once how many spans it cost.
    """
    seen, there = side
    ingest, admin = free_port(), free_port()
    platform = {"url": f"{there}/platform", "compress": "none"}
    settings = {
        "version": 1,
        "ingest": {"listen": f"127.0.0.1:{ingest}"},
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "telemetry": {"otlp": there},
        "platforms": {"shop-a": platform},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(settings))
    daemon = Process(tmp_path / "log", "run", "-c", str(file))
    await daemon.start()
    posts = f"http://127.0.0.1:{ingest}/v1/platforms/shop-a/callbacks"
    async with aiohttp.ClientSession() as session:

        async def answers() -> bool:
            try:
                return (await session.get(f"http://127.0.0.1:{ingest}/livez")).status == 200
            except aiohttp.ClientError:
                return False

        async def post(trace: str, flags: str) -> None:
            headers = {"traceparent": f"00-{trace}-{CALLER}-{flags}"}
            assert (await session.post(posts, data=b"{}", headers=headers)).status == 202

        async def operate(verb: str) -> None:
            url = f"http://127.0.0.1:{admin}/v1/platforms/shop-a/{verb}"
            assert (await session.post(url, json={})).status == 200

        await until(answers, timeout_s=60, what=f"an answer: {daemon.tail()}")
        await operate("pause")  # so that the three go in one request
        await post(ORDER, "01")
        await post(OTHER, "01")
        await post(UNSAMPLED, "00")
        await operate("resume")
        assert (await session.post(f"{posts}?", data=b"", headers={"Relay-Priority": "no"})).status == 400

        async def arrived() -> bool:
            return len(seen.named("deliver")) == 1 and len(seen.named("accept")) == 3

        await until(arrived, timeout_s=60, what=f"spans, not {[span.name for span in seen.spans]}: {daemon.tail()}")
        accepts = {span.trace_id.hex(): span for span in seen.named("accept")}
        (deliver,) = seen.named("deliver")
        assert {ORDER, OTHER} < set(accepts)
        assert UNSAMPLED not in accepts
        assert {accepts[trace].parent_span_id.hex() for trace in (ORDER, OTHER)} == {CALLER}
        linked = {(link.trace_id.hex(), link.span_id) for link in deliver.links}
        assert linked == {(trace, accepts[trace].span_id) for trace in (ORDER, OTHER)}
        assert accepts[ORDER].end_time_unix_nano <= deliver.end_time_unix_nano
        told = {each.key: each.value for each in deliver.attributes}
        assert told["relay.callbacks"].int_value == 3
        assert told["relay.outcome"].string_value == "ok"
        (refused,) = (span for trace, span in accepts.items() if trace not in (ORDER, OTHER))
        assert [each.value.int_value for each in refused.attributes] == [400]  # and not what was asked for

        seen.receives = False
        await post(ORDER, "01")

        async def told_of() -> bool:
            return len(seen.bodies) == 2 and '"spans_lost"' in daemon.tail()

        await until(told_of, timeout_s=60, what=f"a line about lost spans: {daemon.tail()}")
    assert await daemon.signal(signal.SIGTERM) == 0
