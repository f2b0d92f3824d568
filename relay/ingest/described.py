"""What ``/openapi.json`` tells of the ingest listener: SPEC 3.

Drop-in paths are not in it. They are the platforms' own (``accept:`` in the configuration) and change with a reload.
"""

from relay.core.raw import JsonObject
from relay.ingest.rows import NDJSON
from relay.views.callback_view import CallbackView
from relay.views.post_answers import (
    AcceptedLines,
    AcceptedView,
    CancelledView,
    ReleasedSlots,
    ReportedRequests,
    RoutedLines,
    RoutedView,
    TakenBackView,
    TakenSlots,
)
from relay.web.openapi import Answered, Described

_LISTENER = ("ingest",)
_HEADERS = {
    "Idempotency-Key": "the same key with the same body is accepted once; of NDJSON line i gets key#i",
    "Relay-Key": "ordering key; wins over the platform's `key:`",
    "Relay-Event": "name of the event, such as order.shipped",
    "Relay-Priority": "high, normal or low",
    "Relay-Expires": "such as 30m: not delivered by then, it ends as expired",
    "Relay-Not-Before": "30m, or a time with its zone: it is not sent earlier; its expiry counts from then",
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

_GROUP = {"type": "string", "description": "whose limits, where they are kept per group"}
_QUOTA_PROBLEMS = (
    *("invalid_json", "invalid_request", "unauthorized", "forbidden", "unknown_quota", "store_failed", "not_supported"),
    *("forbidden_host", "forbidden_origin", "body_timeout", "too_large", "bad_encoding", "unsupported_encoding"),
)


def _json(**properties: JsonObject) -> dict[str, JsonObject]:
    return {"application/json": {"type": "object", "properties": properties}}


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
        method="DELETE",
        path="/v1/callbacks/{id}",
        summary="Take a callback back that has not gone yet: it ends superseded, with the reason cancelled",
        answers={200: Answered("Taken back", (CancelledView,))},
        problems=("unauthorized", "unknown_callback", "final", "in_flight", "store_failed"),
    ),
    Described(
        listeners=_LISTENER,
        method="DELETE",
        path="/v1/platforms/{platform}/callbacks",
        summary="Take back all that is pending of one ordering key (`?key=991`), or nothing of it",
        query=("key",),
        answers={200: Answered("Taken back", (TakenBackView,))},
        problems=("unauthorized", "unknown_platform", "invalid_request", "in_flight", "store_failed"),
    ),
    Described(
        listeners=_LISTENER,
        method="POST",
        path="/v1/quotas/{quota}/take",
        summary="Take slots of a shared quota, or of a platform's limits, for requests of your own",
        body=_json(
            n={"type": "integer", "minimum": 1, "description": "how many, all or none"},
            wait={"type": "string", "description": "how long to wait for them: 2s; at most 60s"},
            group=_GROUP,
        ),
        answers={200: Answered("Taken, on disk", (TakenSlots,))},
        problems=(*_QUOTA_PROBLEMS, "no_slot", "never_fits", "stopping"),
    ),
    Described(
        listeners=_LISTENER,
        method="POST",
        path="/v1/quotas/{quota}/release",
        summary="Say that the answer was seen: the slots are free one window from now",
        body=_json(
            slots={"type": "array", "items": {"type": "string"}, "description": "as `take` named them"},
            unused={"type": "boolean", "description": "nothing was sent: they are free at once"},
        ),
        answers={200: Answered("Given back", (ReleasedSlots,))},
        problems=_QUOTA_PROBLEMS,
    ),
    Described(
        listeners=_LISTENER,
        method="POST",
        path="/v1/quotas/{quota}/report",
        summary="Count requests that were sent without slots",
        body=_json(
            n={"type": "integer", "minimum": 0, "description": "how many"},
            refused={"type": "boolean", "description": "one was refused: the platform stops"},
            wait={"type": "string", "description": "with refused: how long the platform asked to wait: 30s"},
            group=_GROUP,
        ),
        answers={200: Answered("Counted, on disk", (ReportedRequests,))},
        problems=_QUOTA_PROBLEMS,
    ),
    Described(
        listeners=_LISTENER,
        method="GET",
        path="/openapi.json",
        summary="This document",
        answers={200: Answered("OpenAPI 3.1")},
    ),
)
