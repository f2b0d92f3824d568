"""The relay runs out of descriptors: that is no fault of the platforms, and nothing is held against them."""

import os
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from peer_side import Peer, platform, post
from relay.core.model import Batch, Item, Outcome
from relay.core.settlement import AttemptResult
from relay.delivery.outgoing import unauthorised
from relay.delivery.sender import HttpSender
from relay.delivery.tokens import NoToken
from relay.policy.gate.breaker import Breaker, BreakerTerms
from relay.policy.gate.platform import Gate
from relay.policy.settle.answer import Attempted, Budget, decide
from relay.wire.answers.answer import Answer, Failure
from relay.wire.answers.classify import classify, classify_read_back
from relay.wire.oauth import NotGranted, TokenReading

LACKING = Failure("lacking", connected=False, detail="127.0.0.1:80: Too many open files")


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Nothing can be opened meanwhile: only the three standard streams are allowed, and gaps among them are filled."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    fillers: list[int] = []
    try:
        with suppress(OSError):
            while True:
                fillers.append(os.open(os.devnull, os.O_RDWR))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in fillers:
            os.close(descriptor)


async def test_no_connection_for_lack_of_a_descriptor() -> None:
    """It is told from a platform that is down."""
    sender = HttpSender(concurrency=1, user_agent="callback-relay/test")
    with no_descriptor_left():
        failure = await sender.send(post("http://127.0.0.1:9/"))
    await sender.close()

    assert isinstance(failure, Failure)
    assert (failure.kind, failure.connected) == ("lacking", False)


async def test_a_large_body_goes_out_without_a_spare_descriptor() -> None:
    """On a connection that is there nothing more is needed."""

    async def answers(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.answer("200 OK")

    async with platform(answers) as server:
        sender = HttpSender(concurrency=1, user_agent="callback-relay/test")
        first = await sender.send(post(server.url))
        with no_descriptor_left():
            second = await sender.send(post(server.url, body=b"x" * 200_000))
        await sender.close()

    assert isinstance(first, Answer)
    assert isinstance(second, Answer)


@pytest.mark.parametrize("probing", [False, True])
def test_nothing_is_held_against_the_platform(probing: bool) -> None:
    """The same batch goes again in a second, uncharged; failures, backoff and breaker stay as they are."""
    gate = Gate(Breaker(BreakerTerms(2, 30.0)), base_s=2.0, cap_s=600.0)
    gate.breaker.failures = 1
    if probing:
        gate.breaker.open(900.0, "it was down", random.Random(1))
    before = gate.breaker.dump()
    item = Item(7, "7", b"{}", None, None, None, 900.0, 5000.0, 0, 0, 0.0, maybe_applied=False)
    batch = Batch(1, "b1", 2, 1, "p", "", [item], 1000.0, 1)
    verdict = classify(LACKING, rules=(), compressed=False, items=1, wall=0.0)
    result = AttemptResult(verdict.outcome, 1000.0, 0.1, reason=verdict.reason)

    attempted = Attempted(batch, verdict, result, 999.9, first_after_stop=False)
    settlement = decide(attempted, budget=Budget(0, 2.0, 600.0), gate=gate, now=1000.0, rng=random.Random(1))

    assert settlement.resend is not None
    assert (settlement.resend.due_at, settlement.resend.charge) == (1001.0, False)
    assert gate.opens_at(1000.0) == 1001.0
    assert gate.breaker.dump() == before
    assert (gate.level, gate.resuming) == (0, False)
    assert gate.stop_reason == "the relay has no descriptor or memory left for a connection"


def test_a_read_back_waits_in_the_same_way() -> None:
    """Nothing was asked, so nothing is known."""
    assert classify_read_back(LACKING, rules=(), wall=0.0).outcome is Outcome.UNSENT


def test_a_token_that_could_not_be_asked_for() -> None:
    """The endpoint refused nothing, and neither did the platform."""
    reading = TokenReading(access="a", expires_in="e", refresh="r", lives_s=1.0)
    why = reading.read(LACKING)
    assert isinstance(why, NotGranted)

    assert unauthorised(NoToken(why)).outcome is Outcome.UNSENT
    assert unauthorised(NoToken(NotGranted("no"))).outcome is Outcome.AUTH
