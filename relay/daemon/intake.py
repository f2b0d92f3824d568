"""Compiles what the ingest listener must know from the configuration."""

from relay.config.platform import Platform
from relay.config.schema import Config
from relay.ingest.rows import PlatformIntake
from relay.ingest.server import IngestSettings
from relay.wire.envelope import envelope_for
from relay.wire.extract import KeyPath


def platform_intakes(config: Config) -> dict[str, PlatformIntake]:
    """Return every platform's intake by name."""
    return {name: _intake(name, platform) for name, platform in config.platforms.items()}


def _intake(name: str, platform: Platform) -> PlatformIntake:
    envelope = envelope_for(platform.envelope)
    return PlatformIntake(
        name=name,
        needs_json=envelope.needs_json or platform.key is not None or platform.group is not None,
        expires_s=platform.expires,
        max_bytes=platform.batch.max_bytes,
        frame_bytes=envelope.frame_bytes,
        item_bytes=envelope.item_bytes,
        key=KeyPath(platform.key) if platform.key is not None else None,
        group=KeyPath(platform.group) if platform.group is not None else None,
        group_path=platform.group or "",
    )


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
