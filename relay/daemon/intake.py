"""Compiles what the ingest listener must know from the configuration."""

from collections.abc import Callable

from relay.config.platform import Platform
from relay.config.schema import Config
from relay.ingest.rows import PlatformIntake
from relay.ingest.server import IngestSettings
from relay.wire.envelope import Envelope
from relay.wire.envelopes import envelope_for
from relay.wire.extract import KeyPath
from relay.wire.results import compile_results
from relay.wire.target import Facts, Target

Measure = Callable[[bytes, str | None, str | None], int]


def platform_intakes(config: Config) -> dict[str, PlatformIntake]:
    """Return every platform's intake by name."""
    return {name: _intake(name, platform) for name, platform in config.platforms.items()}


def _intake(name: str, platform: Platform) -> PlatformIntake:
    envelope = envelope_for(platform.envelope.stated())
    return PlatformIntake(
        name=name,
        needs_json=envelope.needs_json or platform.key is not None,
        expires_s=platform.expires,
        max_bytes=platform.batch.max_bytes,
        frame_bytes=envelope.frame_bytes,
        item_bytes=envelope.item_bytes,
        measure=_measure(platform, envelope),
        key=KeyPath(platform.key) if platform.key is not None else None,
    )


def _measure(platform: Platform, envelope: Envelope) -> Measure | None:
    """Return what tells whether a payload can be sent at all, and its bytes in a body; None where any JSON can."""
    target = Target(method=platform.method, url=platform.url)
    results = compile_results(platform.results.model_dump(by_alias=True)) if platform.results else None
    named = results is not None and results.by_id
    if not (envelope.measured or target.has_fields or named):
        return None

    def measure(payload: bytes, key: str | None, event: str | None) -> int:
        facts = Facts(payload, key, event, "0")
        target.of(facts)
        if results is not None:
            results.check(facts)
        return envelope.size(payload, key, event)

    return measure


def ingest_settings(config: Config, listen: str) -> IngestSettings:
    """Return the settings of the listener on ``listen``."""
    ingest = config.ingest
    return IngestSettings(
        listen=listen,
        token=ingest.token,
        hosts=ingest.hosts,
        origins=ingest.origins,
        max_body=ingest.max_body,
        max_bulk=ingest.max_bulk,
    )
