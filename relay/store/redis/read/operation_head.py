"""An operation as it is kept on the server."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from relay.core.model import Filter
from relay.views.operation_view import OperationOptions


class OperationHead(Struct, kw_only=True):
    """What was asked, and where its matches lie."""

    number: int
    action: str
    wanted: dict[str, Any]
    options: OperationOptions
    matched: int
    platforms: list[str]
    started_at: float
    finished_at: float | None = None
    hashes: dict[str, str] = {}  # of what forgets an ordering key: what stands for that, by platform


read_head = msgspec.json.Decoder(OperationHead).decode
"""Reads one as it is kept."""


def filter_kept(wanted: Mapping[str, Any]) -> Filter:
    """Return the filter of an operation from what is kept of it."""
    return msgspec.convert(wanted, Filter)
