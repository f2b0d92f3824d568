"""The snapshot that alert rules look at: what is new since the last one, what fills up, what cannot be known."""

import io
from pathlib import Path
from typing import Any

import pytest
from relay.config.schema.file import Config
from relay.core.errors import StoreFailed
from relay.core.model import StoreRules
from relay.daemon import observing
from relay.daemon.observing import Observer
from relay.store.memory.backend import MemoryStore
from relay.telemetry.events import Events
from relay.telemetry.logging import make_logger
from relay.telemetry.metrics import Metrics
from relay.views.limit_view import LimitView
from relay.views.live import LiveFacts
from relay.views.queue import StoreSize
from tests.clocks import FakeClock
from tests.unit.config_files import MINIMAL, loaded


class Sized(MemoryStore):
    """A store whose size a test says."""

    used = 0

    async def size(self) -> StoreSize:
        return StoreSize(used_bytes=self.used, max_bytes=1000, usable_bytes=1000, full=False)


class Seen:
    """An observer with everything it looks at."""

    def __init__(self, config: Config) -> None:
        self.clock = FakeClock()
        self.store = Sized(clock=self.clock)
        self.metrics = Metrics()
        self.live: dict[str, LiveFacts] = {"a": LiveFacts()}
        self.observer = Observer(
            ledger=self.store,
            live=lambda: self.live,
            terms=dict,
            refused_problems=lambda: 2,
            reveals_refused=tuple,
            reconciled=dict,
            watches=lambda name: name != "elsewhere",
            objective=lambda _name: None,
            hosts_troubled=lambda: {"edge-2": "gone"},
            config=lambda: config,
            metrics=self.metrics,
        )


@pytest.fixture
def elapsed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time that durations are measured by, which the test sets."""
    at = [1000.0]
    monkeypatch.setattr(observing, "elapsed_s", lambda: at[0])
    return at


@pytest.fixture
async def seen(tmp_path: Path, elapsed: list[float]) -> Seen:
    """Return an observer of a relay with one platform."""
    found = Seen(loaded(tmp_path, MINIMAL))
    await found.store.configure(StoreRules())
    return found


async def test_dead_letters_are_those_since_the_last_look(seen: Seen) -> None:
    """By platform and reason; what was seen once is not new again."""
    events = Events(log=make_logger(file=io.BytesIO()), metrics=seen.metrics)
    events.dead(platform="a", count=2, reason="retries used up: timeout")
    events.dead(platform="a", count=1, reason="retries used up: 503 Service Unavailable")
    first = await seen.observer.observe()
    events.dead(platform="a", count=1, reason="rejected: errcode=7")
    second = await seen.observer.observe()
    assert first.platforms is not None
    assert second.platforms is not None
    assert first.platforms["a"].died == {"exhausted": 3}
    assert first.platforms["a"].died_of == {
        "exhausted": {"retries used up: timeout": 2, "retries used up: 503 Service Unavailable": 1}
    }
    assert second.platforms["a"].died == {"reject": 1}
    assert second.platforms["a"].died_of == {"reject": {"rejected: errcode=7": 1}}


async def test_sealed_payloads_that_did_not_open_are_seen(seen: Seen) -> None:
    """By platform, since the start."""
    seen.metrics.unopened["a",] += 2
    seen.metrics.store_damage[()] += 3
    facts = await seen.observer.observe()
    assert facts.platforms is not None
    assert (facts.platforms["a"].unopened, facts.store_damage) == (2, 3)


async def test_nothing_delivered_is_known_after_a_minute(seen: Seen, elapsed: list[float]) -> None:
    """A relay that has just started cannot say that a platform gets nothing."""
    early = await seen.observer.observe()
    elapsed[0] += 60
    later = await seen.observer.observe()
    assert early.platforms is not None
    assert later.platforms is not None
    assert (early.platforms["a"].out_per_s, later.platforms["a"].out_per_s) == (None, 0.0)


async def test_a_store_that_fills_has_its_time_left(seen: Seen, elapsed: list[float]) -> None:
    """100 bytes in 100 s, and 800 of 1000 used: 200 s are left."""
    seen.store.used = 700
    assert (await seen.observer.observe()).full_in_s is None
    elapsed[0] += 100
    seen.store.used = 800
    facts = await seen.observer.observe()
    assert (facts.used_percent, facts.full_in_s) == (80.0, 200.0)


async def test_what_fails_is_unknown(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that cannot commit may still be read; one that cannot be read leaves the platforms unknown."""

    async def broken(*_: Any) -> None:
        raise StoreFailed("no")

    monkeypatch.setattr(seen.store, "ping", broken)
    facts = await seen.observer.observe()
    assert (facts.store_failed, facts.platforms is None, facts.refused_problems) == (True, False, 2)
    monkeypatch.setattr(seen.store, "platform_status", broken)
    assert (await seen.observer.observe()).platforms is None


async def test_a_limit_that_is_enforced_and_not_stated_is_to_be_adopted(seen: Seen) -> None:
    """The line of a learned one; none for an operator's, nor for one that is only observed."""
    for source, enforced, adopt in (("learned", True, "rate: 9/s"), ("operator", True, ""), ("learned", False, "")):
        seen.live = {"a": LiveFacts(learned_limit=LimitView(source=source, enforced=enforced, yaml="rate: 9/s"))}
        facts = await seen.observer.observe()
        assert facts.platforms is not None
        assert facts.platforms["a"].adopt == adopt


async def test_a_client_certificate_has_its_time_left(tmp_path: Path, elapsed: list[float]) -> None:
    """Read from the file that ``connect.cert`` names."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), datetime(2026, 1, 1, tzinfo=UTC)
    ends = now + timedelta(days=3650)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(ends)
    whole = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    whole += key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "c.pem").write_bytes(whole)
    text = MINIMAL.replace("https://a.example/", "https://a.example/, connect: {cert: c.pem}")
    seen = Seen(loaded(tmp_path, text))
    await seen.store.configure(StoreRules())
    left = (await seen.observer.observe()).certificates["a", "client"]
    assert left == pytest.approx(ends.timestamp() - observing.wall_s(), abs=60)


async def test_of_several_hosts_each_tells_of_its_own_platforms(seen: Seen) -> None:
    """A platform that another host sends for is left to that host; what is wrong with hosts is told."""
    seen.live = {"a": LiveFacts(), "elsewhere": LiveFacts(paused=True)}

    facts = await seen.observer.observe()

    assert facts.platforms is not None
    assert set(facts.platforms) == {"a"}
    assert facts.hosts_troubled == {"edge-2": "gone"}
