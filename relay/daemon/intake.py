"""Compiles the parts of the configuration that the ingest listener needs."""

import json
import random
from collections.abc import Callable, Mapping, Sequence

from relay.config.schema.file import Config, QuotaSettings
from relay.config.schema.platform import PlatformSection
from relay.config.schema.routes import Reply
from relay.core.model import NewCallback
from relay.delivery.asking.elsewhere import Elsewhere
from relay.delivery.registry import Registry
from relay.ingest.fan_out import Routing, compile_route
from relay.ingest.intake import IngestSettings
from relay.ingest.lending.desk import LimitDirectory, SlotDesk
from relay.ingest.posts import Directory, DropIn
from relay.ingest.rows import PlatformIntake
from relay.store.base import Store
from relay.web.guard import PostToken
from relay.web.refusal import Refusal
from relay.web.sockets import SocketFile
from relay.wire.envelopes.plain import Envelope
from relay.wire.payload.cost import cost_reader
from relay.wire.payload.extract import KeyPath
from relay.wire.payload.target import Target, TemplateFields

Measure = Callable[[bytes, str | None, str | None], int]


def directory(config: Config) -> Directory:
    """Return the routes, the intake of every platform, and the drop-in paths."""
    routing = Routing(
        [
            compile_route(f"routes[{place}]", route.match, route.to)
            for place, route in enumerate(config.routes)
            if route.match is not None and route.to is not None
        ],
        otherwise=next((route.otherwise.to for route in config.routes if route.otherwise is not None), ()),
    )
    platforms = {
        name: _intake(name, platform, [config.quotas[quota] for quota in platform.quotas])
        for name, platform in config.destinations.items()
    }
    return Directory(routing, platforms, _drop_ins(config, platforms))


def _drop_ins(config: Config, platforms: Mapping[str, PlatformIntake]) -> list[DropIn]:
    found = []
    for name, platform in config.destinations.items():
        if platform.accept is not None:
            reply = platform.accept.reply
            found.append(
                DropIn(
                    path=platform.accept.path,
                    platform=platforms[name],
                    status=reply.status,
                    body=reply.body.encode(),
                    content_type=reply.content_type or _content_type(reply),
                )
            )
    return found


def _content_type(reply: Reply) -> str:
    try:
        json.loads(reply.body)
    except ValueError:
        return "text/plain; charset=utf-8"
    return "application/json"


def _intake(name: str, platform: PlatformSection, shared: Sequence[QuotaSettings]) -> PlatformIntake:
    envelope = platform.envelope.compiled
    measure = _measure(platform, envelope)
    weigh = _weigher(name, platform, shared)
    key = KeyPath(platform.key) if platform.key is not None else None
    group = KeyPath(platform.group) if platform.group is not None else None
    return PlatformIntake(
        name=name,
        needs_json=envelope.needs_json or platform.key is not None or platform.group is not None,
        expires_s=platform.expires,
        max_bytes=platform.batch.max_bytes,
        frame_bytes=envelope.frame_bytes,
        item_bytes=envelope.item_bytes,
        measure=measure,
        key=key,
        group=group,
        group_path=platform.group or "",
        weigh=weigh,
        searches=measure is not None
        or weigh is not None
        or any(path is not None and path.searches for path in (key, group)),
    )


def _weigher(
    name: str, platform: PlatformSection, shared: Sequence[QuotaSettings]
) -> Callable[[NewCallback], NewCallback] | None:
    """Return what adds a callback's cost and refuses one that no window can hold; None where only requests count.

    Of several limits of points the first cost counts: the platform's own before those of its quotas.
    """
    limits = [platform, *shared]
    rates = [rate for section in limits for rate in section.counted]
    most_bytes = min((rate.limit for rate in rates if rate.unit == "bytes"), default=None)
    most_points = min((rate.limit for rate in rates if rate.unit == "points"), default=None)
    if most_bytes is None and most_points is None:
        return None
    given = next((section.points.cost for section in limits if section.points is not None), 1)
    cost = cost_reader(given)
    around = platform.envelope.compiled.frame_bytes + platform.envelope.compiled.item_bytes

    def weigh(row: NewCallback) -> NewCallback:
        size = (len(row.payload) if row.body_bytes is None else row.body_bytes) + around
        if most_bytes is not None and size > most_bytes:
            what = f"alone it is {size} bytes, and {name} takes {most_bytes} in a whole window (bytes)"
            raise Refusal("never_fits", what, limit=most_bytes)
        points = cost(row.payload)
        if most_points is not None and points > most_points:
            what = f"it costs {points} points, and {name} allows {most_points} in a whole window (points)"
            raise Refusal("never_fits", what, limit=most_points)
        return row if most_points is None else row._replace(points=points)

    return weigh


def _measure(platform: PlatformSection, envelope: Envelope) -> Measure | None:
    """Return the function that checks and measures a payload in a body; None if any JSON can be sent as it is."""
    target = Target(method=platform.method, url=platform.url)
    results = platform.results.compiled if platform.results else None
    named = results is not None and results.by_id
    if not (envelope.measured or target.has_fields or named):
        return None

    def measure(payload: bytes, key: str | None, event: str | None) -> int:
        facts = TemplateFields(payload, key, event, "0")
        target.of(facts)
        if results is not None:
            results.check(facts)
        return envelope.size(payload, key, event)

    return measure


def limit_directory(config: Config) -> LimitDirectory:
    """Return the limits that others may take slots of."""
    under: dict[str, list[str]] = {name: [] for name in config.quotas}
    for name, platform in config.platforms.items():
        for quota in platform.quotas:
            under[quota].append(name)
    return LimitDirectory(under, frozenset(config.destinations))


def slot_desk(store: Store, registry: Registry, *, config: Callable[[], Config]) -> SlotDesk:
    """Return what hands out slots of the limits in force."""
    elsewhere = Elsewhere(registry.find, outbox=store, clock=store.clock, rng=random.Random())
    desk = SlotDesk(store.lending, elsewhere, clock=store.clock, directory=lambda: limit_directory(config()))
    store.watch(desk.changed)
    return desk


def ingest_settings(config: Config, listen: str) -> IngestSettings:
    """Return the settings of the listener on ``listen``."""
    ingest = config.ingest
    return IngestSettings(
        listen=listen,
        token=ingest.token,
        file=SocketFile(ingest.unix.mode, ingest.unix.group),
        tokens=tuple(
            PostToken(each.token, None if each.platforms is None else frozenset(each.platforms))
            for each in ingest.tokens
        ),
        tls=None if ingest.tls is None else ingest.tls.context(config.directory),
        hosts=ingest.hosts,
        origins=ingest.origins,
        max_body=ingest.max_body,
        max_bulk=ingest.max_bulk,
    )
