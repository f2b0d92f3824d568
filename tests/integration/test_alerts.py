"""Alerts from a snapshot to robots that check signatures and say in a 200 that something is wrong."""

import asyncio
import base64
import hmac
import json
import logging
import sys
import types
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import standardwebhooks
import structlog
import yaml
from aiohttp import web
from relay.alerts.apprise_sender import AppriseSender
from relay.alerts.facts import PlatformFacts, RelayFacts
from relay.alerts.mailbox import Mailbox
from relay.config.load import loads
from relay.config.schema.file import Config
from relay.core.clock import boottime_s, wall_s
from relay.core.errors import StoreFailed
from relay.core.model import ClaimRequest, Rate, StoreRules, WaitUntil
from relay.daemon.alert_wiring import Alerting
from relay.daemon.observing import Observer
from relay.delivery.auth import Credentials
from relay.delivery.sender import HttpSender, Sender
from relay.delivery.terms import Terms
from relay.delivery.tokenstore import MemoryTokens
from relay.store.memory.backend import MemoryStore
from relay.telemetry.events import Events
from relay.telemetry.metrics import Metrics
from relay.wire.answers.answer import Answer

SECRET = "SECa1b2c3d4e5"
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LATE = RelayFacts(platforms={"shop-a": PlatformFacts(oldest_due_s=600.0, out_per_s=0.0, pending=12)})
WELL = RelayFacts(platforms={"shop-a": PlatformFacts()})


class MovedClock:
    """The machine's clock, which a test can move ahead."""

    def __init__(self) -> None:
        self.ahead_s = wall_s() - boottime_s()

    def now(self) -> float:
        return boottime_s() + self.ahead_s


@dataclass
class Robots:
    """Stand-ins of all targets on one server: what each took, and what it answers instead of ok."""

    url: str = ""
    said: dict[str, list[Any]] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    refused: int = 0
    hanging: set[str] = field(default_factory=set)
    held: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, request: web.Request) -> web.Response:
        body = await request.read()
        name = request.path.split("/")[1]
        if name in self.hanging:
            await self.held.wait()
        wrong = {"ding": self._wrong_ding, "feishu": self._wrong_feishu, "hook": self._wrong_hook}.get(name)
        if wrong is not None and (answer := wrong(request, body)):
            return web.Response(text=answer)
        if name in self.answers:
            self.refused += 1
            return web.Response(text=self.answers[name])
        self.said.setdefault(name, []).append(json.loads(body))
        return web.Response(text='{"errcode":0,"code":0}')

    @staticmethod
    def _wrong_ding(request: web.Request, body: bytes) -> str:
        at = request.query["timestamp"]
        wanted = base64.b64encode(hmac.digest(SECRET.encode(), f"{at}\n{SECRET}".encode(), "sha256")).decode()
        good = request.query["sign"] == wanted and abs(int(at) / 1000 - wall_s()) < 3600
        return "" if good else '{"errcode":310000,"errmsg":"sign not match"}'

    @staticmethod
    def _wrong_feishu(request: web.Request, body: bytes) -> str:
        sent = json.loads(body)
        wanted = base64.b64encode(hmac.digest(f"{sent['timestamp']}\n{SECRET}".encode(), b"", "sha256")).decode()
        return "" if sent["sign"] == wanted else '{"code":19021,"msg":"sign match fail"}'

    @staticmethod
    def _wrong_hook(request: web.Request, body: bytes) -> str:
        standardwebhooks.Webhook(WHSEC).verify(body, dict(request.headers))
        return ""


@pytest.fixture
async def robots() -> AsyncIterator[Robots]:
    """Return the stand-ins on a free port."""
    served = Robots()
    app = web.Application()
    app.router.add_post("/{path:.*}", served.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    served.held.set()
    await runner.cleanup()


def configured(directory: Path, robots: Robots, **alerts: Any) -> Config:
    """Return a configuration with every kind of target that is spoken to by HTTP."""
    targets = {
        "ding": {"kind": "dingtalk", "url": f"{robots.url}/ding?access_token=t0ken", "secret": SECRET, "lang": "zh-CN"},
        "wecom": {"kind": "wecom", "url": f"{robots.url}/wecom?key=k", "lang": "en"},
        "feishu": {"kind": "feishu", "url": f"{robots.url}/feishu", "secret": SECRET, "lang": "en"},
        "am": {"kind": "alertmanager", "url": robots.url},
        "hook": {
            "kind": "webhook",
            "url": f"{robots.url}/hook",
            "sign": {"kind": "standard-webhooks", "secret": WHSEC},
        },
    }
    text = yaml.safe_dump(
        {"version": 1, "platforms": {"shop-a": {"url": robots.url}}, "alerts": {"targets": targets, **alerts}}
    )
    return loads(text, path=directory / "config.yaml", environ={})


@dataclass
class Running:
    """Alerts under way: what they look at, and what they count."""

    alerting: Alerting
    clock: MovedClock
    metrics: Metrics
    facts: list[RelayFacts]

    async def round(self, facts: RelayFacts | None = None, *, later_s: float = 0.0) -> None:
        """Let them look at ``facts``."""
        self.clock.ahead_s += later_s
        if facts is not None:
            self.facts[:] = [facts]
        await self.alerting.desk.round()

    async def until(self, so: Callable[[], bool]) -> None:
        """Look until it is so."""
        while not so():
            await self.round()
            await asyncio.sleep(0.02)

    def sent(self, target: str, result: str) -> int:
        """Return what the metric says."""
        return self.metrics.alerts_sent[target, result]


@asynccontextmanager
async def running(config: Config, clock: MovedClock, observe: Any = None) -> AsyncIterator[Running]:
    """Run alerts without their loop: the test makes the rounds."""
    metrics, facts = Metrics(), [WELL]
    events = Events(log=structlog.wrap_logger(structlog.ReturnLogger()), metrics=metrics)

    def open_sender(terms: Terms) -> Sender:
        return HttpSender(concurrency=terms.concurrency, user_agent="test", outbound=terms.outbound)

    async def given() -> RelayFacts:
        return facts[0]

    credentials = Credentials(
        sender=HttpSender(concurrency=1, user_agent="test"), store=MemoryTokens(), clock=clock, events=events
    )
    alerting = Alerting(
        config=config,
        clock=clock,
        observe=observe or given,
        open_sender=open_sender,
        authoriser=credentials.authoriser,
        host="edge-1",
        events=events,
        metrics=metrics,
    )
    await alerting.start()
    try:
        yield Running(alerting, clock, metrics, facts)
    finally:
        await alerting.stop(0.0)
        await credentials.close()


async def test_every_target_is_told_and_told_when_it_is_over(tmp_path: Path, robots: Robots) -> None:
    """One alert reaches five kinds of target, signed as each wants it, and so does its end."""
    async with running(configured(tmp_path, robots), MovedClock()) as run:
        await run.round(LATE)
        await run.until(lambda: set(robots.said) == {"ding", "wecom", "feishu", "api", "hook"})
        await run.round(WELL, later_s=61)
        await run.until(lambda: all(len(said) == 2 for said in robots.said.values()))
        await run.until(lambda: all(run.sent(name, "ok") == 2 for name in ("ding", "wecom", "feishu", "am", "hook")))
    assert robots.said["ding"][0]["text"]["content"].startswith("[告警] shop-a 延迟")
    assert robots.said["ding"][1]["text"]["content"].startswith("[已恢复] shop-a")
    assert robots.said["wecom"][0]["text"]["content"].startswith("[ALERT] shop-a is late")
    assert robots.said["feishu"][1]["content"]["text"].startswith("[resolved] shop-a is late")
    assert [alert["labels"]["alertname"] for alert in robots.said["api"][0]] == ["relay-late"]
    assert [each["status"] for each in robots.said["hook"]] == ["firing", "resolved"]


async def test_an_alertmanager_is_told_again_every_minute(tmp_path: Path, robots: Robots) -> None:
    """It ends by itself what is not told again; people are not told again with it."""
    async with running(configured(tmp_path, robots), MovedClock()) as run:
        await run.round(LATE)
        await run.until(lambda: (run.sent("am", "ok"), run.sent("wecom", "ok")) == (1, 1))
        await run.round(LATE, later_s=61)
        await run.until(lambda: run.sent("am", "ok") == 2)
        assert len(robots.said["wecom"]) == 1


async def test_a_target_that_hangs_holds_up_no_other(tmp_path: Path, robots: Robots) -> None:
    """The hung one keeps its message on its way; the others have theirs."""
    robots.hanging.add("ding")
    async with running(configured(tmp_path, robots), MovedClock()) as run:
        await run.round(LATE)
        await run.until(lambda: set(robots.said) == {"wecom", "feishu", "api", "hook"})
        (ding,) = [target for target in run.alerting.desk.page().targets if target.name == "ding"]
        assert (ding.waiting, ding.last) == (1, None)
        robots.held.set()
        await run.until(lambda: run.sent("ding", "ok") == 1)


async def test_a_200_that_says_no_is_no_arrival(tmp_path: Path, robots: Robots) -> None:
    """A drill shows the answer, without what is secret in it; the count says failed."""
    robots.answers["ding"] = f'{{"errcode":310000,"errmsg":"sign not match {SECRET}"}}'
    async with running(configured(tmp_path, robots), MovedClock()) as run:
        came = await run.alerting.desk.drill("ding")
        good = await run.alerting.desk.drill("wecom")
        assert (came.arrived, came.status, came.reason) == (False, 200, "errcode=310000")
        assert "sign not match" in came.answer
        assert SECRET not in came.answer
        assert (good.arrived, good.status) == (True, 200)
        assert robots.said["wecom"][0]["text"]["content"].startswith("[DRILL] This is a drill")
        assert (run.sent("ding", "failed"), run.sent("wecom", "ok")) == (1, 1)


async def test_a_page_instead_of_an_answer_is_no_arrival(tmp_path: Path, robots: Robots) -> None:
    """A robot that lies, a gateway's page with a 200, is told as failed and not taken for success."""
    robots.answers["wecom"] = "<html>welcome</html>"
    async with running(configured(tmp_path, robots), MovedClock()) as run:
        await run.round(LATE)
        await run.until(lambda: run.sent("wecom", "failed") == 1)
        (wecom,) = [target for target in run.alerting.desk.page().targets if target.name == "wecom"]
        assert wecom.last is not None
        assert wecom.last.reason == "its answer was not recognised"


async def test_a_refusal_is_retried_within_bounds(tmp_path: Path, robots: Robots) -> None:
    """A target that is down for a moment gets its message after all; the retries are counted."""
    robots.answers["wecom"] = '{"errcode":-1}'
    async with running(configured(tmp_path, robots), MovedClock()) as run:
        await run.round(LATE)
        await run.until(lambda: robots.refused == 1)
        del robots.answers["wecom"]
        await run.until(lambda: run.sent("wecom", "ok") == 1)
        assert run.sent("wecom", "retried") >= 1


async def test_alerts_leave_while_the_store_fails(tmp_path: Path, robots: Robots) -> None:
    """A store that can neither commit nor be read: its own alert arrives, and no platform is said to have recovered."""

    class Broken(MemoryStore):
        async def ping(self) -> None:
            raise StoreFailed("no commit")

        platform_status = totals = size = ping  # type: ignore[assignment]

    clock = MovedClock()
    config = configured(tmp_path, robots)
    observer = Observer(
        ledger=Broken(clock=clock),
        live=dict,
        terms=dict,
        refused_problems=lambda: 0,
        reveals_refused=tuple,
        reconciled=dict,
        watches=lambda _name: True,
        hosts_troubled=dict,
        objective=lambda _name: None,
        config=lambda: config,
        metrics=Metrics(),
    )
    async with running(config, clock, observer.observe) as run:
        await run.until(lambda: len(robots.said.get("hook", ())) == 1)
    assert robots.said["hook"][0]["rule"] == "store-failed"


async def test_a_restart_tells_nothing_twice_and_forgets_no_silence(tmp_path: Path, robots: Robots) -> None:
    """What arrived is not told again; a rule that was silenced stays silent."""
    clock, config = MovedClock(), configured(tmp_path, robots, default_to=["wecom"])
    ill = RelayFacts(platforms={"shop-a": PlatformFacts(oldest_due_s=600.0, out_per_s=0.0, held=1)})
    async with running(config, clock) as run:
        await run.alerting.desk.silence("held", clock.now() + 3600, "known", "ops")
        await run.round(ill)
        await run.until(lambda: run.sent("wecom", "ok") == 1)
    clock.ahead_s += 300  # it was down for five minutes, and does not know yet what goes out
    async with running(config, clock) as again:
        await again.round(RelayFacts(platforms={"shop-a": PlatformFacts(oldest_due_s=900.0, out_per_s=None, held=1)}))
        await again.round(ill, later_s=30)
        assert again.alerting.desk.firing()["late"] == 1
        assert {alert.status for alert in again.alerting.desk.page().items} == {"firing"}
        held = [alert for alert in again.alerting.desk.page().items if alert.rule == "held"]
        assert (held[0].silenced_until or 0.0) > clock.now()
    assert len(robots.said["wecom"]) == 1


async def test_what_was_on_its_way_at_a_restart_is_told_after_it(tmp_path: Path, robots: Robots) -> None:
    """A message in memory dies with the process: the alert counts as not told."""
    robots.hanging.add("wecom")
    clock, config = MovedClock(), configured(tmp_path, robots, default_to=["wecom"])
    async with running(config, clock) as run:
        await run.round(LATE)
        await run.round(LATE)
    robots.hanging.clear()
    async with running(config, clock) as again:
        await again.round(LATE)
        await again.until(lambda: again.sent("wecom", "ok") == 1)


async def test_a_board_that_cannot_be_read_costs_a_repeat(tmp_path: Path, robots: Robots) -> None:
    """A torn file is told and begun anew."""
    config = configured(tmp_path, robots, default_to=["wecom"])
    config.alerts_path.write_bytes(b'{"alerts": [')
    async with running(config, MovedClock()) as run:
        await run.round(LATE)
        await run.until(lambda: run.sent("wecom", "ok") == 1)
    assert config.alerts_path.stat().st_mode & 0o777 == 0o600


async def test_a_target_that_takes_nothing_is_bounded(tmp_path: Path) -> None:
    """The hundred and first message is dropped and counted; the others wait."""
    clock, metrics = MovedClock(), Metrics()
    queue = MemoryStore(clock=clock)
    await queue.configure(StoreRules())
    events = Events(log=structlog.wrap_logger(structlog.ReturnLogger()), metrics=metrics)
    mailbox = Mailbox(queue, clock=clock, events=events)
    for _ in range(103):
        await mailbox.post("deaf", [b"{}"], [])
    assert mailbox.waiting() == {"deaf": 100}
    assert metrics.alerts_sent["deaf", "dropped"] == 3
    clock.ahead_s += 3601
    await mailbox.look()
    assert (mailbox.waiting(), metrics.alerts_sent["deaf", "failed"]) == ({}, 100)


async def _goes_no_faster(run: Running) -> None:
    """Post thirty messages to a robot at once: 18 go, and the next one waits for the limit."""
    mailbox = run.alerting.desk._mailbox
    for number in range(30):
        await mailbox.post("wecom", [b'{"n": %d}' % number], [])
    await run.until(lambda: run.sent("wecom", "ok") == 18)
    wait = await mailbox._queue.claim(ClaimRequest("wecom", None, 1, 1 << 20, 2, 1, 0.0, 0, True))
    assert isinstance(wait, WaitUntil)
    assert wait.reason == "limit"


async def test_a_robot_gets_no_more_than_its_limit(tmp_path: Path, robots: Robots) -> None:
    """Thirty messages in a burst: 18 go, the others wait for their slots."""
    config = configured(tmp_path, robots)
    assert config.alerts.targets["wecom"].platform.rate == (Rate(18, 60.0),)
    async with running(config, MovedClock()) as run:
        await _goes_no_faster(run)
        assert (len(robots.said["wecom"]), run.alerting.desk._mailbox.waiting()) == (18, {"wecom": 12})


async def test_another_configuration_tells_its_own_targets(tmp_path: Path, robots: Robots) -> None:
    """After a reload the new target is told of what comes; the old one of nothing more."""
    first, second = (configured(tmp_path, robots, default_to=[name]) for name in ("wecom", "hook"))
    async with running(first, MovedClock()) as run:
        await run.alerting.replace(second, 0.1)
        await run.round(LATE)
        await run.until(lambda: "hook" in robots.said)
    assert set(robots.said) == {"hook"}


async def test_a_target_that_a_reload_adds_has_its_limit(tmp_path: Path, robots: Robots) -> None:
    """A robot that the file names later gets no more in a minute than it takes, as one that was there at the start."""
    text = yaml.safe_dump({"version": 1, "platforms": {"shop-a": {"url": robots.url}}})
    async with running(loads(text, path=tmp_path / "config.yaml", environ={}), MovedClock()) as run:
        await run.alerting.replace(configured(tmp_path, robots), 0.1)
        await _goes_no_faster(run)
        assert len(robots.said["wecom"]) == 18


async def test_apprise_is_handed_title_and_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The library is imported for the first message. Its word counts; its log lines, which hold addresses, do not."""
    told: list[tuple[str, str, str]] = []

    class Apprise:
        def add(self, url: str) -> bool:
            self.url = url
            return True

        def notify(self, *, title: str, body: str) -> bool:
            logging.getLogger("apprise").error("cannot reach %s", self.url)
            told.append((self.url, title, body))
            return True

    library = types.ModuleType("apprise")
    library.Apprise = Apprise  # type: ignore[attr-defined]
    library.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "apprise", library)
    targets = {"mail": {"kind": "apprise", "url": "mailto://user:pw@mail.example"}}
    text = yaml.safe_dump({"version": 1, "platforms": {"a": {"url": "http://a/"}}, "alerts": {"targets": targets}})
    async with running(loads(text, path=tmp_path / "config.yaml", environ={}), MovedClock()) as run:
        await run.round(LATE)
        await run.until(lambda: run.sent("mail", "ok") == 1)
    assert caplog.records == []
    ((url, title, body),) = told
    assert url == "mailto://user:pw@mail.example"
    assert title.startswith("[ALERT] shop-a is late")
    assert "→ relay status" in body


@pytest.mark.parametrize(
    ("takes", "says"), [(False, True), (True, False)], ids=["an address it does not know", "a message that failed"]
)
async def test_what_apprise_could_not_send_is_no_arrival(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes: bool, says: bool
) -> None:
    """The library says no without an exception; the message is tried again, and not counted as told."""

    class Apprise:
        def add(self, url: str) -> bool:
            return takes

        def notify(self, *, title: str, body: str) -> bool:
            return says

    library = types.ModuleType("apprise")
    library.Apprise = Apprise  # type: ignore[attr-defined]
    library.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "apprise", library)
    sender = AppriseSender("mailto://user:pw@mail.example")
    message = types.SimpleNamespace(body=b'{"title": "a", "body": "b"}', timeout_s=10.0)
    answer = await sender.send(message)
    assert isinstance(answer, Answer)
    assert answer.status == 502
    await sender.close()


def test_the_dingtalk_check_is_no_rubber_stamp() -> None:
    """The stand-in refuses a signature of another secret."""
    query = parse_qs(urlsplit("http://x/?timestamp=1&sign=abc").query)
    request = types.SimpleNamespace(query={name: values[0] for name, values in query.items()})
    assert "310000" in Robots._wrong_ding(request, b"")  # type: ignore[arg-type]


async def test_a_round_that_fails_is_told_and_tried_again(tmp_path: Path, robots: Robots) -> None:
    """A snapshot that raises ends nothing; the next round tells what there is."""
    facts: list[RelayFacts | Exception] = [LATE, RuntimeError("a bug")]

    async def observe() -> RelayFacts:
        found = facts.pop() if len(facts) > 1 else facts[0]
        if isinstance(found, Exception):
            raise found
        return found

    async with running(configured(tmp_path, robots, default_to=["wecom"]), MovedClock(), observe) as run:
        task = asyncio.create_task(run.alerting.desk.run())
        while len(facts) > 1:
            await asyncio.sleep(0.01)
        run.clock.ahead_s += 11
        while "wecom" not in robots.said:
            await asyncio.sleep(0.02)
        assert not task.done()
        task.cancel()
