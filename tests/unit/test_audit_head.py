"""The audit's head is sent once a day, over restarts too, and said in words that hold the hash."""

import asyncio
import json

import structlog
from relay.alerts.shapes import Told, bodies
from relay.alerts.words import sentences
from relay.config.schema.alerts import WebhookTarget
from relay.simulate.virtual import VirtualClock, VirtualLoop
from relay.store.memory.backend import MemoryStore
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics
from relay.upkeep.head import DAY_S, HeadSender
from relay.views.past.journal import AuditHead

_BEGAN = 1_790_000_040.0


def test_the_head_is_sent_once_a_day() -> None:
    """At once where it never was; then a day after the last time, whoever started meanwhile; to a target alone."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        clock = VirtualClock(loop, _BEGAN)
        store, target = MemoryStore(clock=clock), ["safe"]
        sent: list[tuple[float, str, int]] = []

        async def send(name: str, head: AuditHead) -> None:
            sent.append((clock.now() - _BEGAN, name, head.count))

        def started() -> tuple[HeadSender, asyncio.Task[None]]:
            events = Events(log=structlog.wrap_logger(structlog.ReturnLogger()), metrics=Metrics())
            sender = HeadSender(
                store=store,
                target=lambda: target[0] if target else None,
                send=send,
                clock=clock,
                wall=clock.now,
                events=events,
            )
            return sender, asyncio.create_task(sender.run())

        _, running = started()
        await asyncio.sleep(10)
        running.cancel()
        sender, running = started()
        await asyncio.sleep(1.5 * DAY_S)
        target.clear()
        sender.nudge()
        await asyncio.sleep(3 * DAY_S)
        running.cancel()
        assert [(round(at), name, count) for at, name, count in sent] == [(0, "safe", 0), (86400, "safe", 1)]
        head = await store.journal.audit_head()
        assert head.count == 2

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def test_its_message_holds_the_hash() -> None:
    """In words of both languages, and by itself for a machine."""
    values = {"count": "12", "hash": "ab" * 32}
    for language in ("en", "zh-CN"):
        said = sentences("audit-head", "", values, 0, language)
        assert values["hash"] in said.summary
        assert said.todo == f"relay audit verify --head {values['hash']}"
    target = WebhookTarget.model_validate({"kind": "webhook", "url": "https://safe.example/"})
    told = Told("audit-head", "note", "", "", _BEGAN, None, sentences("audit-head", "", values, 0, "en"), values)
    (body,) = bodies(target, [told], host="edge-1", wall=_BEGAN)
    assert json.loads(body)["labels"] == {"host": "edge-1", **values}
