"""What one platform's pipeline runs on: its configuration, compiled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from relay.config.schema.auth import AnyCredential
from relay.config.schema.file import Config
from relay.config.schema.item_results import Confirm
from relay.config.schema.platform import PlatformSection
from relay.delivery.sender import Outbound
from relay.limits.known import LearnTerms, Mode
from relay.policy.gate.breaker import BreakerTerms
from relay.policy.hours import SendingHours
from relay.policy.objective import Objective
from relay.policy.settle.answer import Budget, ReadBack
from relay.wire.answers.classify import Rule
from relay.wire.answers.results import Results
from relay.wire.destinations import Destinations
from relay.wire.envelopes.plain import Envelope
from relay.wire.payload.fields import ItemMapping
from relay.wire.payload.target import Target
from relay.wire.signing.draft import merged_headers
from relay.wire.signing.header import Signer


@dataclass(frozen=True, slots=True)
class Asking:
    """How to ask the platform what became of one callback: a compiled ``confirm``."""

    target: Target
    headers: Mapping[str, str]
    body: ItemMapping | None
    rules: Sequence[Rule]
    ambiguous: bool  # also for requests that may have been applied, instead of sending them again


_ANYWHERE = Destinations()


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
    envelope: Envelope = field(compare=False)  # made from ``stated``
    codec: str
    budget: Budget
    breaker: BreakerTerms | None
    grouped: bool = False  # its groups take turns
    hours: SendingHours | None = None  # None: at any time
    objective: Objective | None = None  # None: nobody said how late callbacks may be
    gather_s: float = 0.0  # the longest that one waits for newer ones of its key; 0.0: none does
    learn: LearnTerms = field(default_factory=LearnTerms)
    stated: PlatformSection | None = None
    rules: Sequence[Rule] = field(default=(), compare=False)  # made from ``stated``, as what follows
    auth: AnyCredential | None = None
    credential: str = ""  # the name under which ``auth`` is shared
    signer: Signer | None = field(default=None, compare=False)  # made from ``stated``
    target: Target | None = field(default=None, compare=False)  # where method or URL use fields of the callback
    results: Results | None = field(default=None, compare=False)
    asking: Asking | None = field(default=None, compare=False)
    destinations: Destinations = _ANYWHERE  # where requests may go at all
    outbound: Outbound = field(default=Outbound(), compare=False)  # made from ``stated`` and ``destinations``
    secrets: frozenset[str] = field(default=frozenset(), compare=False, repr=False)  # as ``Config.secrets_of``

    @property
    def destination(self) -> str:
        """Host and port of the platform: whose limits they are."""
        return urlsplit(self.url).netloc.rpartition("@")[2].lower()

    @property
    def searches(self) -> bool:
        """Whether building a request looks into payloads, which takes pure Python."""
        by_id = self.results is not None and self.results.by_id
        return self.envelope.measured or by_id or (self.target is not None and self.target.has_fields)

    @property
    def reads_answers(self) -> bool:
        """Whether more of an answer counts than its status and headers."""
        return bool(self.rules) or self.results is not None or self.asking is not None

    @property
    def read_back(self) -> ReadBack:
        """When a read-back decides what became of a callback."""
        if self.asking is None:
            return "never"
        return "ambiguous" if self.asking.ambiguous else "unclear"


_MODES = {True: Mode.ENFORCE, "observe": Mode.OBSERVE, False: Mode.OFF}


def compile_all(config: Config) -> list[Terms]:
    """Return the terms of every platform of the configuration."""
    destinations = config.outbound.compiled()
    return [
        replace(
            compile_terms(name, platform, config.credential_of(name)),
            outbound=_outbound(platform, config.directory, destinations),
            destinations=destinations,
            secrets=config.secrets_of(name),
        )
        for name, platform in config.platforms.items()
    ]


def compile_targets(config: Config) -> list[Terms]:
    """Return the terms of every alert target: it is spoken to as platforms are."""
    destinations = config.outbound.compiled()
    return [
        replace(
            compile_terms(name, target.platform, config.credential_of_target(name)),
            outbound=_outbound(target.platform, config.directory, destinations),
            destinations=destinations,
            secrets=config.secrets_of_target(name),
        )
        for name, target in config.alerts.targets.items()
    ]


def _outbound(platform: PlatformSection, directory: Path, destinations: Destinations) -> Outbound:
    connect = platform.connect
    login = (connect.proxy_auth or "").partition(":")
    return Outbound(
        proxy=connect.proxy,
        proxy_auth=(login[0], login[2]) if connect.proxy_auth is not None else None,
        tls=connect.tls(directory),
        dns_cache_s=connect.dns_cache,
        source=connect.source,
        denied=destinations.why_denied,
    )


def compile_terms(name: str, platform: PlatformSection, credential: tuple[str, AnyCredential] | None = None) -> Terms:
    """Return the terms that ``platforms.NAME`` of the configuration states; ``credential`` is what it names."""
    envelope = platform.envelope.compiled
    breaker = platform.breaker
    target = Target(method=platform.method, url=platform.url)
    results, confirm = platform.results, platform.confirm
    return Terms(
        platform=name,
        url=platform.url,
        method=platform.method,
        headers=merged_headers(platform.headers),
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
        hours=platform.send.hours if platform.send else None,
        objective=platform.kept_objective,
        gather_s=platform.coalesce.max if platform.coalesce.quiet else 0.0,
        learn=LearnTerms(_MODES[platform.learn_limit], platform.learn_floor),
        rules=tuple(rule.compiled for rule in platform.classify),
        stated=platform,
        auth=credential[1] if credential else None,
        credential=credential[0] if credential else "",
        signer=platform.sign.signer if platform.sign else None,
        target=target if target.has_fields else None,
        results=results.compiled if results else None,
        asking=_asking(confirm, platform) if confirm else None,
    )


def _asking(confirm: Confirm, platform: PlatformSection) -> Asking:
    return Asking(
        target=Target(method=confirm.method, url=confirm.url),
        headers=merged_headers(platform.headers, confirm.headers),
        body=ItemMapping(confirm.body) if confirm.body else None,
        rules=tuple(rule.compiled for rule in confirm.classify),
        ambiguous=confirm.ambiguous,
    )
