"""Tries a post on a configuration: where it would go, and how. Sends nothing; opens no store and no socket.

The routes and the checks of the payload are the daemon's own code.
"""

from dataclasses import dataclass
from typing import Any

from relay.config.schema.file import Config
from relay.core.model import UNROUTED, Item, Lane, NewCallback
from relay.daemon.intake import directory
from relay.ingest.post_options import read_post_options
from relay.ingest.posts import ROUTED_DEFAULTS
from relay.ingest.rows import one_row
from relay.web.refusal import Refusal
from relay.wire.payload.target import Target, TemplateFields

_PRIORITIES = {Lane.HIGH: "high", Lane.LOW: "low"}


@dataclass(frozen=True, slots=True)
class Tried:
    """The result of a post: its rows, or the code and detail of its problem."""

    route: str | None  # the entry of `routes:` that decided; None for a post to one platform
    rows: tuple[NewCallback, ...] = ()
    code: str | None = None
    detail: str = ""

    @property
    def to(self) -> tuple[str, ...]:
        """The platforms that would get it."""
        return tuple(row.platform for row in self.rows)


class Trial:
    """A configuration to try callbacks against."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._directory = directory(config)

    def post(self, payload: bytes, headers: dict[str, str], *, platform: str | None = None) -> Tried:
        """Return the result of a post of ``payload`` with these ``Relay-*`` headers.

        It is posted to ``platform``; if that is None, the routes decide. Raises ``KeyError`` for an unknown platform.
        """
        content_type = headers.get("Content-Type")
        label: str | None = None
        try:
            if len(payload) > self._config.ingest.max_body:
                raise Refusal("too_large", f"the payload exceeds ingest.max_body, {self._config.ingest.max_body} bytes")
            if platform is not None:
                intake = self._directory.platforms[platform]
                options = read_post_options(headers, intake)
                return Tried(None, (one_row(payload, intake, options, content_type),))
            options = read_post_options(headers, ROUTED_DEFAULTS)
            route = self._directory.routing.choose(payload, options.event)
            label = route.label
            return Tried(label, tuple(self._directory.rows(route, payload, options, content_type)))
        except Refusal as refusal:
            return Tried(label, code=refusal.code, detail=refusal.detail)

    def view(self, tried: Tried) -> dict[str, Any]:
        """Return the result as people and programs read it."""
        if tried.code is not None:
            return {"accepted": False, "route": tried.route, "code": tried.code, "detail": tried.detail, "targets": []}
        return {"accepted": True, "route": tried.route, "targets": [self._target(row) for row in tried.rows]}

    def _target(self, row: NewCallback) -> dict[str, Any]:
        view: dict[str, Any] = {"platform": row.platform, "key": row.key, "event": row.event}
        if row.platform == UNROUTED:
            return {**view, "note": "kept as a dead letter until the routes take it: relay dead retry"}
        platform = self._config.platforms[row.platform]
        envelope = platform.envelope.compiled
        target = Target(method=platform.method, url=platform.url)
        method, url = target.of(TemplateFields(row.payload, row.key, row.event, "(id)"))
        item = Item(0, "", row.payload, row.key, row.event, row.content_type, 0.0, 0.0, 0, 0, 0.0, False)
        body, content_type = envelope.build([item])
        return view | {
            "group": row.group,
            "priority": _PRIORITIES.get(Lane(row.lane), "normal"),
            "expires_s": row.expires_s,
            "request": f"{method} {url}",
            "envelope": envelope.kind,
            "content_type": content_type,
            "body_bytes": len(body),
            "max_bytes": platform.batch.max_bytes,
            "max_items": platform.batch.max_items,
            "limits": self._limits(row.platform),
        }

    def _limits(self, name: str) -> list[str]:
        platform = self._config.platforms[name]
        own = [str(rate) for rate in platform.rate]
        return own + [
            f"{rate} (shared: {quota})" for quota in platform.quotas for rate in self._config.quota(quota).rates
        ]
