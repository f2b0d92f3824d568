"""Turns a post to ``/v1/callbacks`` into what the store accepts: a row for each platform its route names, or a refusal.

Pure, like ``rows``. A post that no route takes is not always refused. With an idempotency key it may repeat a post that
was accepted under other routes, and only the store knows that. So it goes to the store without rows; its refusal is the
answer if it repeats nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from relay.config.problems import nearest, quoted
from relay.core.model import UNROUTED, Lane, NewCallback, RoutedPost
from relay.ingest.fan_out import Route, Routing
from relay.ingest.post_options import PostOptions, open_envelope, repeat_key, text
from relay.ingest.rows import PlatformIntake, Turn, one_row
from relay.web.refusal import Refusal

REASON = "unrouted"
"""Why a callback of the platform ``UNROUTED`` is dead."""
_MOST_NAME = 64  # characters of an unknown name that are compared; no configured name is longer


class RoutedDefaults(NamedTuple):
    """The defaults of a routed post. An expiry of 0 means that each target's own will be taken."""

    lane: Lane = Lane.NORMAL
    expires_s: float = 0.0


ROUTED_DEFAULTS = RoutedDefaults()


class PostDraft(NamedTuple):
    """A post for the store, and its refusal if no platform takes it and it repeats no earlier post."""

    post: RoutedPost
    refusal: Refusal | None

    @property
    def platforms(self) -> Iterator[str]:
        """The platforms it is for; what no route takes is for none."""
        return (row.platform for row in self.post.rows if row.platform != UNROUTED)


def check_granted(granted: frozenset[str] | None, platforms: Iterable[str]) -> None:
    """Raise 403 ``forbidden`` unless a token is for all ``platforms``; ``granted`` None: it is for every one."""
    if granted is not None and not granted.issuperset(platforms):
        raise Refusal("forbidden", "this token may not post to this platform (ingest.tokens)")


class DropIn(NamedTuple):
    """A path that accepts callbacks for one platform and answers as the platform itself would."""

    path: str
    platform: PlatformIntake
    status: int
    body: bytes
    content_type: str


class Directory(NamedTuple):
    """The routes in force, the platforms that they name, and the drop-in paths of these."""

    routing: Routing
    platforms: Mapping[str, PlatformIntake]
    drop_ins: Sequence[DropIn] = ()

    @property
    def searches(self) -> bool:
        """Whether routing a post may need a search in pure Python, which is slow, and not only a JSON decoder."""
        return self.routing.searches or any(platform.searches for platform in self.platforms.values())

    def platform(self, name: str) -> PlatformIntake:
        """Return the platform called so. Raises ``Refusal`` (404 ``unknown_platform``)."""
        found = self.platforms.get(name)
        if found is None:
            hint = nearest(name[:_MOST_NAME], self.platforms) or "name one under `platforms:`"
            raise Refusal("unknown_platform", f"no platform {quoted(name)} is configured; {hint}")
        return found

    def draft(self, payload: bytes, options: PostOptions, content_type: str | None) -> PostDraft:
        """Route one post. Raises ``Refusal`` if no platform takes it and it has no idempotency key."""
        refusal: Refusal | None = None
        rows: Sequence[NewCallback] = ()
        route = self.routing.choose(payload, options.event)
        try:
            rows = self.rows(route, payload, options, content_type)
        except Refusal as found:
            if options.idempotency_key is None:
                raise
            refusal = found
        reason = REASON if route.to == (UNROUTED,) else None
        return PostDraft(
            RoutedPost(rows, payload, options.key, options.event, options.idempotency_key, reason),
            refusal,
        )

    def rows(self, route: Route, payload: bytes, options: PostOptions, content_type: str | None) -> list[NewCallback]:
        """Return the row of each platform that ``route`` names. Raises ``Refusal`` if one of them cannot take it."""
        if not route.to:
            raise self._no_route()
        return [self._row(name, payload, options, content_type) for name in route.to]

    def reroute(self, unrouted: NewCallback) -> Sequence[NewCallback] | str:
        """Route a callback again that no route took; a ``store.base.Reroute``.

        Returns its rows, or why it still has none: ``no_route`` or the code of the refusal.
        """
        route = self.routing.choose(unrouted.payload, unrouted.event)
        if route.to == (UNROUTED,):
            return "no_route"
        options = PostOptions(
            None,
            unrouted.key,
            unrouted.event,
            unrouted.lane,
            unrouted.expires_s,
            unrouted.traceparent,
            unrouted.reference,
        )
        try:
            return self.rows(route, unrouted.payload, options, unrouted.content_type)
        except Refusal as refusal:
            return refusal.code

    def _row(self, name: str, payload: bytes, options: PostOptions, content_type: str | None) -> NewCallback:
        key = options.key
        if name == UNROUTED:
            kind = text("Content-Type", content_type)
            lane, expires_s, trace = options.lane, options.expires_s, options.traceparent
            row = NewCallback(name, payload, key, options.event, lane, expires_s, None, kind, trace, "")
            return row._replace(reference=options.reference)
        platform = self.platforms[name]
        own = options._replace(idempotency_key=None, expires_s=options.expires_s or platform.expires_s)
        try:
            return one_row(payload, platform, own, content_type)
        except Refusal as refusal:
            raise Refusal(refusal.code, f"for {name}: {refusal.detail}", **refusal.extra) from None

    def _no_route(self) -> Refusal:
        if self.routing.empty:
            return Refusal("no_route", "no `routes:` are configured; post to /v1/platforms/{platform}/callbacks")
        return Refusal(
            "no_route",
            "no route of `routes:` matches its event and fields (a payload that is not JSON has no fields); "
            "`otherwise: dead_letter` would keep it",
        )


def drafts(
    turn: Turn,
    directory: Directory,
    options: PostOptions,
    max_body: int,
    *,
    enveloped: bool,
    granted: frozenset[str] | None = None,
) -> list[PostDraft]:
    """Return a draft for each line that is not empty, for ``granted`` platforms. Raises ``Refusal`` with the line."""
    found: list[PostDraft] = []
    for number, line in enumerate(turn.lines, turn.first):
        if not line or line.isspace():
            continue
        try:
            if enveloped:
                payload, repeat, key, event, lane, expires_s = open_envelope(line, number, options)
                own = options._replace(idempotency_key=repeat, key=key, event=event, lane=lane, expires_s=expires_s)
            else:
                payload, own = line, options._replace(idempotency_key=repeat_key(options, number))
            if len(payload) > max_body:
                raise Refusal("too_large", f"its payload exceeds {max_body} bytes", limit=max_body)
            found.append(directory.draft(payload, own, None))
            check_granted(granted, found[-1].platforms)
        except Refusal as refusal:
            raise on_line(number, refusal) from None
    return found


def on_line(number: int, refusal: Refusal) -> Refusal:
    """Return the refusal of a whole request because of one of its lines."""
    return Refusal(refusal.code, f"line {number}: {refusal.detail}; nothing was accepted", line=number, **refusal.extra)
