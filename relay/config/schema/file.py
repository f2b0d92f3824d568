"""The schema of the whole file, and what the rest of the relay reads from it.

Durations are float seconds, sizes are bytes, rates are ``core.model.Rate``. Every key carries its description; the
JSON Schema for editors and the reference page are made from it.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from relay.config.problems import Problem
from relay.config.reading.known_secrets import target_owner
from relay.config.reading.server_urls import ServerUrl, parse_server_url
from relay.config.reading.yaml_source import KeyPath, Mark
from relay.config.schema.alerts import AlertSettings
from relay.config.schema.allowed.counted import CountedLimits, WindowRates
from relay.config.schema.auth import AnyCredential, Credential, UseAuth
from relay.config.schema.platform import PlatformDefaults, PlatformSection
from relay.config.schema.protection.outbound import OutboundSettings
from relay.config.schema.protection.privacy import Privacy
from relay.config.schema.protection.tls import ListenerTls
from relay.config.schema.protection.unix import UnixSocket
from relay.config.schema.receipts import ReceiptsSettings
from relay.config.schema.reconcile import ReconcileSettings
from relay.config.schema.routes import RouteSettings
from relay.config.schema.telemetry import TelemetrySettings
from relay.config.schema.values import (
    Listens,
    Name,
    Names,
    OneOrMoreTexts,
    PositiveDuration,
    Rates,
    Secret,
    Section,
    Size,
    StorePrefix,
    StoreUrl,
    Text,
    Texts,
    TokenKey,
    only_list,
    required,
    setting,
)
from relay.core.model import Quota, StoreRules
from relay.core.raw import JsonObject
from relay.core.receipts import RECEIPTS

_INSECURE = "Says that it is meant to listen beyond this machine without TLS, or without asking who comes."

_DEFAULT_STORE = "sqlite:relay.db"


class PostTokenSection(Section):
    """A token that lets somebody post, to some platforms."""

    name: Name = required("Whose it is; stands in messages.")
    token: Secret = required("Sent as `Authorization: Bearer <token>`; use a ${file:...} reference.")
    platforms: Names | None = setting(None, "Where it may post. Not set: to all platforms.")


class Ingest(Section):
    """Where the order center posts callbacks."""

    listen: Listens = setting("127.0.0.1:8787", "Address or list of addresses: host:port or unix:/path.")
    max_body: Size = setting("1MiB", "Largest payload of one callback, after decoding.")
    max_bulk: Size = setting("32MiB", "Largest NDJSON request, after decoding.")
    token: Secret | None = setting(
        None, "If set, posts need `Authorization: Bearer <token>`. Not needed on loopback with one user."
    )
    tokens: Annotated[tuple[PostTokenSection, ...], BeforeValidator(only_list)] = setting(
        [], "More tokens, each for some platforms: who has one may post there alone, and see what became of it."
    )
    unix: UnixSocket = setting({}, "Who may connect to the sockets at unix:/path of `listen`.")
    hosts: Texts = setting([], "Host names the relay is called by, besides loopback names and the address itself.")
    origins: Texts = setting([], "Web origins that may post from a browser; none by default.")
    processes: Annotated[int, Field(ge=0, le=16)] = setting(
        0, "Processes that take posts in beside the daemon, which writes. 1 brings more posts on two cores, for 30 MB."
    )
    tls: ListenerTls | None = setting(None, "Serve over TLS. Not set: plain HTTP, for this machine alone.")
    insecure: bool = setting(False, _INSECURE)


class UserSection(Section):
    """Someone who may use the admin side."""

    name: Name = required("Stands in the audit log.")
    role: Literal["stats", "viewer", "operator", "privacy", "admin"] = required(
        "stats sees totals and charts; viewer also callbacks; operator also pauses, retries, drops, reloads; privacy "
        "may have payloads revealed; admin all."
    )
    view: Name | None = setting(
        None, "What is seen of payloads: a name of privacy.views. Not set: everything is masked."
    )
    token: Secret = required("Sent as `Authorization: Bearer <token>`; use a ${file:...} reference.")


class Admin(Section):
    """Where operators, the console and Prometheus connect."""

    listen: Listens = setting("127.0.0.1:8788", "Address or list of addresses: host:port or unix:/path.")
    users: Annotated[tuple[UserSection, ...], BeforeValidator(only_list)] = setting(
        [], "Who may do what. With none: loopback only, and everything but revealing payloads is allowed."
    )
    hosts: Texts = setting([], "Host names the console is called by, besides loopback names and the address itself.")
    origins: Texts = setting([], "Web origins that may call the API from a browser; none by default.")
    tls: ListenerTls | None = setting(None, "Serve over TLS. Not set: plain HTTP, for this machine alone.")
    insecure: bool = setting(False, _INSECURE)


class Keep(Section):
    """How long finished callbacks stay, and what happened in each minute."""

    delivered: PositiveDuration = setting("7d", "Delivered and superseded callbacks; idempotency keys live as long.")
    dead: PositiveDuration = setting("90d", "Dead and expired callbacks, for a person to look at.")
    history: PositiveDuration | None = setting(
        None,
        "On a server: what `delivered` and `dead` take from it lies in a file of this host, beside its spool, until so "
        "long after it ended. Not set: it is deleted.",
    )
    samples: PositiveDuration = setting("7d", "What happened in each minute, per platform: the history of the charts.")
    audit: PositiveDuration = setting("3y", "Audit records; deleted from the oldest on, and the deletion is recorded.")


class Durability(Section):
    """What an accept and a claim on a server wait for; the counts it answers are compared."""

    aof: bool = setting(True, "true: until the server has synced its append-only file.")
    replicas: Annotated[int, Field(ge=0, le=16)] = setting(
        0, "Until so many replicas have it too. Name all that can be elected: one that has it not may win."
    )
    timeout: PositiveDuration = setting("500ms", "How long they wait; then the post is answered 503.")


class SpoolSettings(Section):
    """Where posts wait while the server is away: a file of this host, in the form of a sqlite: store."""

    path: Text = setting("spool.db", "A relative path lies in $STATE_DIRECTORY, else beside the configuration file.")
    max_size: Size = setting("512MiB", "Most room; when it is full, posts are answered 503 store_full.")


class StoreSettings(Section):
    """Where callbacks lie until they are delivered."""

    url: StoreUrl = setting(
        _DEFAULT_STORE,
        "sqlite:PATH; a relative path lies in $STATE_DIRECTORY, else beside the configuration file. Hosts share "
        "a Valkey or Redis: redis://HOST:PORT/DB, rediss://, redis+sentinel://H1:PORT,H2:PORT/NAME, "
        "redis+cluster://H1:PORT,H2:PORT.",
    )
    prefix: StorePrefix = setting("relay", "On a server: how the names of all its keys begin.")
    durability: Durability = setting({}, "On a server: what an accept and a claim wait for.")
    spool: SpoolSettings = setting({}, "On a server: where posts wait while it is away.")
    max_size: Size = setting(
        "2GiB", "Most room of used pages, or of a server's memory; nothing undelivered is ever dropped for room."
    )
    keep: Keep = setting({}, "How long finished callbacks and the history stay.")
    token_key: TokenKey | None = setting(
        None,
        "32 bytes as hex or base64, as a ${file:...} reference: tokens and rotated refresh tokens are kept beside the "
        "store, encrypted with it. Not set: they live in memory and are fetched anew after a restart.",
    )


class AuditSettings(Section):
    """The record of what people did."""

    head_to: Name | None = setting(
        None, "A target of alerts that is sent the newest record's hash daily. Not set: nobody is."
    )


class QuotaSettings(CountedLimits):
    """A request limit that several platforms share."""

    rate: WindowRates = setting([], "Requests allowed: 40/s, or a list such as [40/s, 100000/day] that must all hold.")
    burst: Annotated[int, Field(ge=1)] | None = setting(
        None, "Requests at most back to back, then the pace window/N. Not set: as many as the rate has free."
    )
    per: Literal["group"] | None = setting(
        None, "group: the limit holds for each group (such as a shop) by itself. Not set: for all together."
    )
    reserve: Rates = setting(
        [],
        "Kept in every window for others, who take slots through the API: 5/s of 40/s. A window that it does not name "
        "keeps the same share. Not set: nothing is kept, and they take turns with the relay.",
    )

    @property
    def kept(self) -> tuple[int, ...]:
        """How many requests of each rate are kept for others; empty for none."""
        if not self.reserve:
            return ()
        kept = {rate.window_s: rate.limit for rate in self.reserve}
        limits = {rate.window_s: rate.limit for rate in self.rate if rate.plain}
        share = max(limit / limits[window_s] for window_s, limit in kept.items())
        return tuple(kept.get(rate.window_s, int(rate.limit * share)) if rate.plain else 0 for rate in self.rate)


class Origin(NamedTuple):
    """Where a loaded configuration came from; kept for showing it."""

    file: str
    state_directory: Path
    data: JsonObject  # as written, references unresolved
    marks: dict[KeyPath, Mark]
    secrets: dict[str, frozenset[str]]  # by platform: what must not be kept or shown of its answers
    unread: tuple[str, ...] = ()  # references that only the service can read


class Config(Section):
    """The relay's configuration."""

    version: Literal[1] = required("Format of this file; always 1.")
    include: OneOrMoreTexts = setting(
        [],
        "More files, relative to this one: conf.d/*.yaml, or a list. Mappings are merged, and a key may be set in one "
        "file only.",
    )
    ingest: Ingest = setting({}, "Where the order center posts callbacks.")
    admin: Admin = setting({}, "Where operators, the console and Prometheus connect.")
    host: Name | None = setting(
        None,
        "Its lasting name among the hosts that share a store on a server. Not set: the machine's hostname.",
    )
    store: StoreSettings = setting({}, "Where callbacks lie until they are delivered.")
    privacy: Privacy = setting({}, "What protects the personal data in callbacks, and what people see of it.")
    quotas: dict[Name, QuotaSettings] = setting({}, "Limits shared by several platforms, by name.")
    credentials: dict[Name, Credential] = setting(
        {}, "What lets us into platforms, by name, for `auth: {use: NAME}`; platforms that share one share its token."
    )
    defaults: PlatformDefaults = setting({}, "Keys every platform starts from.")
    platforms: dict[Name, PlatformSection] = required("The destinations, by name; the name stands in URLs and metrics.")
    outbound: OutboundSettings = setting({}, "Where requests may go: to platforms, token endpoints and alert targets.")
    routes: Annotated[tuple[RouteSettings, ...], BeforeValidator(only_list)] = setting(
        [], "Which platforms get what is posted to /v1/callbacks; the first route that matches decides."
    )
    receipts: ReceiptsSettings | None = setting(
        None,
        "Where the order center hears what became of its callbacks, as the reserved platform _receipts. Not set: it is "
        "not told.",
    )
    alerts: AlertSettings = setting({}, "Who is told when something is wrong; the rules hold without this section too.")
    telemetry: TelemetrySettings = setting({}, "Where spans of posts and requests are sent, beside log and metrics.")
    audit: AuditSettings = setting({}, "The record of what people did; what is kept of it: store.keep.audit.")
    reconcile: dict[Name, ReconcileSettings] = setting(
        {}, "By platform: what is compared with the order center, when and how, and what is done about it."
    )

    @model_validator(mode="after")
    def _receipts_are_delivered(self) -> "Config":
        """Let the machinery deliver receipts as it does callbacks: to a platform of a name that nobody can give."""
        if self.receipts is not None:
            self.platforms[RECEIPTS] = self.receipts
        return self

    _origin: Origin = PrivateAttr()
    _warnings: tuple[Problem, ...] = PrivateAttr(default=())

    @property
    def destinations(self) -> dict[str, PlatformSection]:
        """The platforms that callbacks may be posted for: all but the reserved one."""
        return {name: platform for name, platform in self.platforms.items() if name != RECEIPTS}

    @property
    def origin(self) -> Origin:
        """The file this was loaded from."""
        return self._origin

    @property
    def files(self) -> frozenset[str]:
        """The files with settings: the main one, and those of the files it includes that set something."""
        return frozenset(mark.file for mark in self._origin.marks.values())

    @property
    def unread(self) -> tuple[str, ...]:
        """References that were left to the service, as ``${file:name}``; none where it runs."""
        return self._origin.unread

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is worth knowing although the file can be used."""
        return self._warnings

    def secrets_of_target(self, target: str) -> frozenset[str]:
        """Return the same for a target of alerts."""
        return self._origin.secrets[target_owner(target)]

    def secrets_of(self, platform: str) -> frozenset[str]:
        """Return the texts that must not be kept or shown of what a platform answers; it may repeat a request."""
        return self._origin.secrets[platform]

    @property
    def directory(self) -> Path:
        """Where the file lies, and what relative paths in it start from."""
        return Path(self._origin.file).resolve().parent

    @property
    def server(self) -> ServerUrl | None:
        """The server that several hosts share as their store; None for a file."""
        return None if self.store.url.startswith("sqlite:") else parse_server_url(self.store.url)

    @property
    def store_path(self) -> Path:
        """The store's file, or of a store on a server that of its spool, which this host's other files lie beside.

        A relative one lies in ``$STATE_DIRECTORY``, else beside the configuration file.
        """
        name = self.store.spool.path if self.server is not None else self.store.url.removeprefix("sqlite:")
        return self._origin.state_directory / name

    @property
    def history_path(self) -> Path:
        """The file of final callbacks that lay on the server before, beside the spool."""
        return self.store_path.with_name(self.store_path.name + ".history")

    @property
    def default_store_path(self) -> Path:
        """The store's file where no ``store.url`` is written; a relay may have used it before it shared a server."""
        return self._origin.state_directory / _DEFAULT_STORE.removeprefix("sqlite:")

    @property
    def token_path(self) -> Path:
        """The file that keeps tokens, beside the store."""
        return self.store_path.with_name(self.store_path.name + ".tokens")

    @property
    def alerts_path(self) -> Path:
        """The file that keeps what was told, beside the store: it is written while the store cannot be."""
        return self.store_path.with_name(self.store_path.name + ".alerts")

    def credential_of(self, platform: str) -> tuple[str, AnyCredential] | None:
        """Return what a platform is authorised with, and the name under which it is shared; None for nothing."""
        return self._credential(self.platforms[platform].auth, f"platform:{platform}")

    def credential_of_target(self, target: str) -> tuple[str, AnyCredential] | None:
        """Return the same for a target of alerts."""
        auth = getattr(self.alerts.targets[target], "auth", None)
        return self._credential(auth, target_owner(target))

    def _credential(self, auth: Any, owner: str) -> tuple[str, AnyCredential] | None:
        if isinstance(auth, UseAuth):
            return auth.use, self.credentials[auth.use]
        return None if auth is None else (owner, auth)

    def quota(self, name: str) -> Quota:
        """Return the shared quota called ``name``."""
        settings = self.quotas[name]
        counted = settings.counted
        kept = (*settings.kept, *(0 for _ in counted)) if settings.reserve else ()
        return Quota(name, (*settings.rate, *counted), settings.burst, per_group=settings.per == "group", reserve=kept)

    def store_rules(self) -> StoreRules:
        """Return what a store acts on: shared quotas, private ones as ``platform:NAME``, and how long to keep."""
        quotas = {name: self.quota(name) for name in self.quotas}
        for name, platform in self.platforms.items():
            private = platform.private_quota(name)
            if private is not None:
                quotas[private.name] = private
        return StoreRules(
            quotas=quotas,
            platforms={name: platform.rules(name) for name, platform in self.platforms.items()},
            keep_delivered_s=self.store.keep.delivered,
            keep_dead_s=self.store.keep.dead,
            keep_history_s=self.store.keep.history,
            keep_samples_s=self.store.keep.samples,
            keep_audit_s=self.store.keep.audit,
            max_size_bytes=self.store.max_size,
            receipts=None if self.receipts is None else self.receipts.in_store,
        )
