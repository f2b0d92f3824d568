"""What one platform's pipeline runs on: its configuration, compiled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from relay.config.platform import Platform
from relay.policy.breaker import BreakerTerms
from relay.policy.settling import Budget
from relay.wire.classify import Rule, compile_rule
from relay.wire.envelope import Envelope, envelope_for


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
    grouped: bool = False  # its groups take turns
    rules: Sequence[Rule] = field(
        default=(), compare=False
    )  # compiled rules hold functions: ``stated`` compares instead
    stated: Platform | None = None


def compile_terms(name: str, platform: Platform) -> Terms:
    """Return the terms that ``platforms.NAME`` of the configuration states."""
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
        grouped=platform.group is not None,
        rules=tuple(compile_rule(rule.model_dump(by_alias=True)) for rule in platform.classify),
        stated=platform,
    )
