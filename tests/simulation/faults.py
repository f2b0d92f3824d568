"""Faults that somebody could make one day in the relay, planted to see that the simulation finds them."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import relay.delivery.courier
import relay.store.sqlite.file.boot
import relay.store.sqlite.file.connection
import relay.store.sqlite.limits.past_requests
import relay.wire.answers.hints
from relay.core.model import Outcome, Verdict
from tests.simulation.disk import Disk

_PRAGMAS = tuple(
    (name, 1 if name == "synchronous" else wanted)
    for name, wanted in relay.store.sqlite.file.connection._WRITER_PRAGMAS
)
_read = relay.delivery.courier.read


def _trusting(answer: Any, batch: Any, **settings: Any) -> Verdict:
    """Take a connection that broke for a success."""
    if getattr(answer, "kind", "") == "reset":
        return Verdict(Outcome.OK, ambiguous=False, reason="")
    return _read(answer, batch, **settings)


FAULTS: dict[str, tuple[Callable[[], Any], str, tuple[int, ...]]] = {
    "commits are not synced": (
        lambda: patch.object(relay.store.sqlite.file.connection, "_WRITER_PRAGMAS", _PRAGMAS),
        "I1",
        (2, 4, 9),
    ),
    "the disk lies about its syncs": (lambda: patch.object(Disk, "forgets_syncs", True), "I1", (2, 4, 9)),
    "a restart forgets what was sent in the window": (
        lambda: patch.object(relay.store.sqlite.limits.past_requests, "past_requests", lambda *_: ()),
        "I8",
        (8, 36, 47),
    ),
    "a restart leaves what was under way where it is": (
        lambda: patch.object(relay.store.sqlite.file.boot, "cut_off", lambda *_: None),
        "I13",
        (2, 3, 4),
    ),
    "a broken connection counts as a success": (
        lambda: patch.object(relay.delivery.courier, "read", _trusting),
        "I4",
        (2, 9, 28),
    ),
    "nobody reads Retry-After": (
        lambda: patch.object(relay.wire.answers.hints, "retry_after_s", lambda *_, **__: None),
        "I11",
        (23, 37, 42),
    ),
}
"""What is planted, the invariant that it breaks, and seeds that show it: one is enough."""
