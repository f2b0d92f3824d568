"""Times as answers carry them: ISO 8601 in UTC with milliseconds."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def instant(at: float | None) -> str | None:
    """Return ``at`` as ``2026-11-22T10:02:11.123Z``; None for no time (None, zero or infinite)."""
    if at is None or at <= 0 or not math.isfinite(at):
        return None
    moment = datetime.fromtimestamp(round(at * 1000) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def with_instants(value: Any) -> Any:
    """Return ``value`` with every time in it (keys ``at`` or ending in ``_at``, ``since``, ``until``) as an instant."""
    if isinstance(value, Mapping):
        return {key: _under(key, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [with_instants(inner) for inner in value]
    return value


def _under(key: str, value: Any) -> Any:
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and (key == "at" or key.endswith(("_at", "since", "until")))
    ):
        return instant(value)
    return with_instants(value)
