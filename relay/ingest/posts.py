"""From a post to ``/v1/callbacks`` to what the store accepts: a row for each platform its route names, or a refusal.

Pure, like ``rows``. A refusal is not the last word where the post has an idempotency key: it may repeat a post that
was accepted under other routes, and only the store knows. Such a post goes there without rows, with its refusal kept.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from relay.core.model import UNROUTED, Lane, NewCallback, RoutedPost
from relay.ingest.fan_out import Route, Routing
from relay.ingest.post_options import Wishes, open_envelope, repeat_key, text
from relay.ingest.rows import PlatformIntake, Turn, one_row
from relay.web.refusal import Refusal

REASON = "unrouted"
"""Why a callback of the platform ``UNROUTED`` is dead."""


class RoutedDefaults(NamedTuple):
    """What a routed post takes for unsaid: the expiry is then each target's own, 0 until the targets are known."""

    lane: Lane = Lane.NORMAL
    expires_s: float = 0.0


UNSAID = RoutedDefaults()


class PostDraft(NamedTuple):
    """A post for the store, and what to answer if it takes nothing and repeats nothing."""

    post: RoutedPost
    refusal: Refusal | None


class Directory(NamedTuple):
    """The routes and platforms in force together."""

    routing: Routing
    platforms: Mapping[str, PlatformIntake]

    @property
    def searches(self) -> bool:
        """Whether routing a post may take pure Python, not just a decoder's pass."""
        return self.routing.searches or any(platform.searches for platform in self.platforms.values())

    def draft(self, payload: bytes, wishes: Wishes, content_type: str | None) -> PostDraft:
        """Route one post. Raises ``Refusal`` where it cannot be a repeat either."""
        refusal: Refusal | None = None
        rows: Sequence[NewCallback] = ()
        route = self.routing.choose(payload, wishes.event)
        try:
            rows = self.rows(route, payload, wishes, content_type)
        except Refusal as found:
            if wishes.idempotency_key is None:
                raise
            refusal = found
        reason = REASON if route.to == (UNROUTED,) else None
        return PostDraft(
            RoutedPost(rows, payload, wishes.key, wishes.event, wishes.idempotency_key, reason),
            refusal,
        )

    def rows(self, route: Route, payload: bytes, wishes: Wishes, content_type: str | None) -> list[NewCallback]:
        """Return the row of each platform that ``route`` names. Raises ``Refusal`` when one of them cannot take it."""
        if not route.to:
            raise self._no_route()
        return [self._row(name, payload, wishes, content_type) for name in route.to]

    def reroute(self, unrouted: NewCallback) -> Sequence[NewCallback] | str:
        """Ask the routes again about a callback that none took: a ``store.base.Reroute``."""
        route = self.routing.choose(unrouted.payload, unrouted.event)
        if route.to == (UNROUTED,):
            return "no_route"
        wishes = Wishes(None, unrouted.key, unrouted.event, unrouted.lane, unrouted.expires_s, unrouted.traceparent)
        try:
            return self.rows(route, unrouted.payload, wishes, unrouted.content_type)
        except Refusal as refusal:
            return refusal.code

    def _row(self, name: str, payload: bytes, wishes: Wishes, content_type: str | None) -> NewCallback:
        key = wishes.key
        if name == UNROUTED:
            kind = text("Content-Type", content_type)
            lane, expires_s = wishes.lane, wishes.expires_s
            return NewCallback(name, payload, key, wishes.event, lane, expires_s, None, kind, wishes.traceparent, "")
        platform = self.platforms[name]
        own = Wishes(None, key, wishes.event, wishes.lane, wishes.expires_s or platform.expires_s, wishes.traceparent)
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
    wishes: Wishes,
    max_body: int,
    *,
    enveloped: bool,
    duration: Callable[[str], float],
) -> list[PostDraft]:
    """Return the drafts of lines that are posts. Raises ``Refusal`` with the line."""
    found: list[PostDraft] = []
    for number, line in enumerate(turn.lines, turn.first):
        if not line or line.isspace():
            continue
        try:
            if enveloped:
                payload, repeat, key, event, lane, expires_s = open_envelope(line, number, wishes, duration)
                own = Wishes(repeat, key, event, lane, expires_s, wishes.traceparent)
            else:
                payload, own = line, wishes._replace(idempotency_key=repeat_key(wishes, number))
            if len(payload) > max_body:
                raise Refusal("too_large", f"its payload exceeds {max_body} bytes", limit=max_body)
            found.append(directory.draft(payload, own, None))
        except Refusal as refusal:
            raise on_line(number, refusal) from None
    return found


def on_line(number: int, refusal: Refusal) -> Refusal:
    """Return the refusal of a whole request for one of its lines."""
    return Refusal(refusal.code, f"line {number}: {refusal.detail}; nothing was accepted", line=number, **refusal.extra)
