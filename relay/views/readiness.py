"""Answers to the probes ``/livez`` and ``/readyz``."""

from typing import Annotated

from msgspec import UNSET, Struct, UnsetType

from relay.views.moments import told


class LiveView(Struct, frozen=True):
    """The process answers."""

    status: Annotated[str, told("always ok")] = "ok"


class ReadyView(Struct, frozen=True):
    """The store commits."""

    status: Annotated[str, told("ok, or degraded: it commits, and something is not well")] = "ok"
    reasons: Annotated[list[str] | UnsetType, told("of degraded: what is not well, in words")] = UNSET
