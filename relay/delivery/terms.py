"""What one platform's pipeline runs on: its configuration, compiled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from relay.config.auth import AnyCredential
from relay.config.platform import Platform
from relay.config.schema import Config
from relay.policy.breaker import BreakerTerms
from relay.policy.settling import Budget
from relay.wire.classify import Rule, compile_rule
from relay.wire.envelope import Envelope, envelope_for
from relay.wire.sign import Signer


@dataclass(frozen=True, slots=True)
class Terms:
    """One platform's terms of delivery; times in seconds, sizes in bytes."""

    platform: str
    url: str
    method: str
    headers: Mapping[str, str]
    concurrency: int
    timeout_s: float
    max_items: int
    max_bytes: int
    linger_s: float
    envelope: Envelope
    codec: str
    budget: Budget
    breaker: BreakerTerms | None
    rules: Sequence[Rule] = field(compare=False)  # compiled rules hold functions: ``stated`` compares instead
    stated: Platform | None = None
    auth: AnyCredential | None = None
    credential: str = ""  # the name under which ``auth`` is shared
    signer: Signer | None = field(default=None, compare=False)  # made from ``stated``


def compile_all(config: Config) -> list[Terms]:
    """Return the terms of every platform of the configuration."""
    return [compile_terms(name, platform, config.credential_of(name)) for name, platform in config.platforms.items()]


def compile_terms(name: str, platform: Platform, credential: tuple[str, AnyCredential] | None = None) -> Terms:
    """Return the terms that ``platforms.NAME`` of the configuration states; ``credential`` is what it names."""
    envelope = envelope_for(platform.envelope)
    breaker = platform.breaker
    return Terms(
        platform=name,
        url=platform.url,
        method=platform.method,
        headers=platform.headers,
        concurrency=platform.concurrency,
        timeout_s=platform.timeout,
        max_items=min(platform.batch.max_items, envelope.max_items or platform.batch.max_items),
        max_bytes=platform.batch.max_bytes,
        linger_s=platform.batch.linger,
        envelope=envelope,
        codec=platform.compress,
        budget=Budget(times=platform.retry.times, base_s=platform.retry.backoff.base, cap_s=platform.retry.backoff.cap),
        breaker=BreakerTerms(breaker.open_after, breaker.probe_every) if breaker else None,
        rules=tuple(compile_rule(rule.model_dump(by_alias=True)) for rule in platform.classify),
        stated=platform,
        auth=credential[1] if credential else None,
        credential=credential[0] if credential else "",
        signer=platform.sign.signer() if platform.sign else None,
    )
