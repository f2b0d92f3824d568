"""``outbound.deny_private`` holds for the address connected to, whatever name led there, for every kind of request."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from relay.config.load import load
from relay.core.model import Outcome
from relay.delivery.sender import HttpSender, Outbound, Request
from relay.delivery.terms import compile_all, compile_targets
from relay.wire.answers.answer import Answer, Failure
from relay.wire.answers.classify import classify
from relay.wire.destinations import Destinations, parse_network

DENY = Destinations(deny_private=True)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server on loopback that answers everything."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="reached")

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def _sent(url: str, destinations: Destinations) -> Answer | Failure:
    sender = HttpSender(concurrency=1, user_agent="t", outbound=Outbound(denied=destinations.why_denied))
    try:
        return await sender.send(Request(url, "POST", {}, b"{}", 30.0))
    finally:
        await sender.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"])
async def test_a_private_address_is_not_connected_to(port: int, host: str) -> None:
    """By number or by name, in any form: the failure names the address; nothing was sent, the platform is down."""
    failure = await _sent(f"http://{host}:{port}/", DENY)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.connected) == ("denied", False), failure
    verdict = classify(failure, rules=(), compressed=False, items=1, wall=0.0)
    assert (verdict.outcome, verdict.ambiguous) == (Outcome.DOWN, False)
    assert "(outbound.deny_private)" in verdict.reason
    assert "Errno" not in verdict.reason
    if host == "127.0.0.1":
        assert verdict.reason == "127.0.0.1 is a loopback address (outbound.deny_private)"


async def test_an_allowed_one_is(port: int) -> None:
    """With ``allow``, and where nothing is denied."""
    for rules in (Destinations(deny_private=True, allow=(parse_network("127.0.0.0/8"),)), Destinations()):
        answer = await _sent(f"http://127.0.0.1:{port}/", rules)
        assert isinstance(answer, Answer)
        assert answer.body == b"reached"


def test_platforms_and_alert_targets_have_it(tmp_path: Path) -> None:
    """What the configuration states is part of the terms, so a reload that changes it makes new connections."""
    text = (
        "version: 1\nplatforms: {a: {url: https://a.example/}}\n"
        "alerts: {targets: {ops: {kind: webhook, url: 'https://ops.example/'}}}\n"
    )
    (tmp_path / "config.yaml").write_text(text + "outbound: {deny_private: true, allow: [10.2.0.0/16]}\n")
    denying = load(str(tmp_path / "config.yaml"))
    (tmp_path / "config.yaml").write_text(text)
    (before,) = compile_all(load(str(tmp_path / "config.yaml")))
    for terms in (*compile_all(denying), *compile_targets(denying)):
        assert terms.outbound.denied is not None
        assert terms.outbound.denied("10.2.0.1") is None
        assert terms.outbound.denied("10.3.0.1") == "10.3.0.1 is a private address (outbound.deny_private)"
        assert terms != before
