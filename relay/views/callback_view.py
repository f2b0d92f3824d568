"""One callback: where it stands, and every attempt that carried it."""

from typing import Annotated, Any

from msgspec import UNSET, Struct, UnsetType

from relay.views.moments import Instant, told
from relay.views.waiting import WaitingView


class AttemptView(Struct, frozen=True, kw_only=True):
    """One request that carried a callback, and its outcome."""

    attempt: Annotated[int, told("n-th request of this batch, from 1")]
    batch: Annotated[str, told("id of the batch: the same over re-sends of the same callbacks")]
    started_at: Annotated[Instant, told("just before its first byte")]
    duration_s: Annotated[float | None, told("until its answer or failure, in seconds; null while it is under way")]
    outcome: Annotated[str | None, told("ok, duplicate, throttled, retry, reject, ...; null while it is under way")]
    status: Annotated[int | None, told("HTTP status; null without an answer")]
    reason: Annotated[str, told("why, in a few stable words")]
    excerpt: Annotated[str, told("the start of the answer")]
    ambiguous: Annotated[bool, told("the platform may have applied it")]


class CallbackFacts(Struct, kw_only=True):
    """Where a callback stands."""

    id: Annotated[str, told("given when it was accepted")]
    platform: Annotated[str, told("where it goes")]
    state: Annotated[str, told("pending, delivered, dead, expired, superseded")]
    key: Annotated[str | None, told("ordering key: callbacks of one key go in the order accepted")]
    event: Annotated[str | None, told("name of the event, as it was posted")]
    priority: Annotated[str, told("high, normal, low")]
    group: Annotated[str, told("group of the platform; empty for none")]
    accepted_at: Annotated[Instant, told("when it was accepted")]
    due_at: Annotated[Instant, told("when it may be sent; of a retry the end of its backoff")]
    expires_at: Annotated[Instant, told("when it is given up undelivered")]
    ended_at: Annotated[Instant | None, told("when its state became final")]
    spent: Annotated[int, told("re-sends charged to its budget")]
    held: Annotated[bool, told("it waits for a person, who knows what became of it")]
    in_flight: Annotated[bool, told("a request with it is under way")]
    maybe_applied: Annotated[bool, told("the platform may have applied it: an attempt ended without a clear answer")]
    reason: Annotated[str, told("why it is in this state, or was not delivered by the last attempt")]
    code: Annotated[str | None, told("of a dead or held one: what its rule met in the answer, such as 10060004")]
    message: Annotated[str, told("the platform's own words about it")]
    bytes: Annotated[int, told("size of its payload in bytes")]
    batch: Annotated[str | None, told("id of the batch that it is in or was in last")]
    history: Annotated[
        str | UnsetType, told("the host in whose history file it lies, where it is on no server any more")
    ] = UNSET


class ListedCallback(CallbackFacts, kw_only=True):
    """A callback in a list."""

    attempts: Annotated[int, told("requests that carried it")]


class CallbackView(CallbackFacts, kw_only=True):
    """A callback with its attempts."""

    attempt_count: Annotated[int, told("requests that carried it, also those no longer kept")]
    attempts: Annotated[list[AttemptView], told("those that are kept, newest last")]
    superseded_by: Annotated[str | UnsetType, told("id of the callback that stands for it")] = UNSET
    payload_deleted: Annotated[bool, told("it was dropped: there is nothing left to send")]
    traceparent: Annotated[str | UnsetType, told("W3C trace context it came with")] = UNSET
    key_held: Annotated[str | UnsetType, told("why an operator holds its ordering key back, while one does")] = UNSET
    reference: Annotated[str | UnsetType, told("the Relay-Reference it came with")] = UNSET
    waiting: Annotated[WaitingView | UnsetType, told("what it waits for, while it is pending")] = UNSET
    payload: Annotated[Any, told("asked for with payload=1: as far as the user's view goes")] = UNSET
    payload_form: Annotated[str | UnsetType, told("masked; hidden: no JSON, so only its size is shown")] = UNSET
    payload_bytes: Annotated[int | UnsetType, told("size of the payload in bytes")] = UNSET


class RevealView(Struct, frozen=True, kw_only=True):
    """A payload as it came, shown to one person once."""

    id: Annotated[str, told("the callback's")]
    payload: Annotated[Any, told("JSON as it came, byte for byte; else a text, or base64")]
    payload_form: Annotated[str, told("json, text or base64")]
    payload_bytes: Annotated[int, told("its size in bytes")]


class CallbackPage(Struct, frozen=True):
    """One page of callbacks, newest first."""

    items: Annotated[list[ListedCallback], told("may be empty although there are more")]
    next: Annotated[str | None, told("cursor of the next page; null: this was the last")]
