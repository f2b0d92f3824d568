"""What ``/openapi.json`` tells of the ingest listener: SPEC 3.

Drop-in paths are not in it. They are the platforms' own (``accept:`` in the configuration) and change with a reload.
"""

from relay.core.raw import JsonObject
from relay.ingest.rows import NDJSON
from relay.views.callback_view import CallbackView
from relay.views.post_answers import AcceptedLines, AcceptedView, RoutedLines, RoutedView
from relay.web.openapi import Answered, Described

_LISTENER = ("ingest",)
_HEADERS = {
    "Idempotency-Key": "the same key with the same body is accepted once; of NDJSON line i gets key#i",
    "Relay-Key": "ordering key; wins over the platform's `key:`",
    "Relay-Event": "name of the event, such as order.shipped",
    "Relay-Priority": "high, normal or low",
    "Relay-Expires": "such as 30m: not delivered by then, it ends as expired",
    "Relay-Reference": "a text of yours of up to 200 bytes; it comes back in the receipt as `reference`",
    "Relay-Envelope": '1: each line of NDJSON is {"payload": ..., "key": ..., "event": ..., ...}',
    "Content-Encoding": "gzip or zstd: the body is decoded",
    "traceparent": "W3C trace context, kept and shown with the callback",
}
_BODY: dict[str, JsonObject] = {
    "*/*": {"description": "one callback, any bytes"},
    NDJSON: {"type": "string", "description": "many callbacks, one per line, accepted all or none"},
}
_REPLAYED = {"Idempotent-Replayed": "true: it was accepted before, and nothing was queued again"}
_LOCATION = {"Location": "of one callback: where it can be asked for"}
_PROBLEMS = (
    *("invalid_json", "bad_encoding", "invalid_header", "unauthorized", "forbidden_host", "forbidden_origin"),
    *("body_timeout", "too_large", "unsupported_encoding", "unfit_payload", "idempotency_conflict"),
    *("store_full", "store_failed", "overloaded"),
)

ROUTES = (
    Described(
        listeners=_LISTENER,
        method="POST",
        path="/v1/platforms/{platform}/callbacks",
        summary="Accept callbacks for one platform",
        headers=_HEADERS,
        body=_BODY,
        answers={202: Answered("On disk", (AcceptedView, AcceptedLines), {**_LOCATION, **_REPLAYED})},
        problems=(*_PROBLEMS, "unknown_platform"),
    ),
    Described(
        listeners=_LISTENER,
        method="POST",
        path="/v1/callbacks",
        summary="Accept callbacks for the platforms that `routes:` names, all in one commit",
        headers=_HEADERS,
        body=_BODY,
        answers={202: Answered("On disk", (RoutedView, RoutedLines), _REPLAYED)},
        problems=(*_PROBLEMS, "no_route"),
    ),
    Described(
        listeners=_LISTENER,
        method="GET",
        path="/v1/callbacks/{id}",
        summary="One callback with its attempts, without its payload",
        answers={200: Answered("Found", (CallbackView,))},
        problems=("unauthorized", "unknown_callback"),
    ),
    Described(
        listeners=_LISTENER,
        method="GET",
        path="/openapi.json",
        summary="This document",
        answers={200: Answered("OpenAPI 3.1")},
    ),
)
