"""What a receipt says, and the row that it is queued as: made by a store in the transaction that ends a callback."""

import msgspec
from msgspec import UNSET, Struct, UnsetType

from relay.core.clock import wall_s, wall_shift_s
from relay.core.model import Lane, NewCallback
from relay.core.receipts import RECEIPTS, ReceiptRules

_JSON = "application/json"


class Receipt(Struct, frozen=True, kw_only=True):
    """What became of one callback: no payload, and nothing of it but its ordering key."""

    id: str
    platform: str
    key: str | None
    event: str | None
    idempotency_key: str | None
    traceparent: str | None
    state: str  # one of core.receipts.OCCASIONS
    reason: str
    code: str | None
    attempts: int  # requests that carried it
    at: str | None  # when it ended or was held: ISO 8601, UTC
    maybe_applied: bool  # the platform may have it although it was not seen to
    reference: str | UnsetType = UNSET  # the post's Relay-Reference

    @property
    def posted(self) -> list[str | None]:
        """What of it came with the callback; the rest are the relay's own words, and names that everybody sees."""
        return [self.key, self.idempotency_key, self.traceparent, None if self.reference is UNSET else self.reference]


def receipt_row(receipt: Receipt, rules: ReceiptRules) -> NewCallback:
    """Return the row of a receipt: those of one ordering key are delivered in order, over all platforms."""
    payload = msgspec.json.encode(receipt)
    size = None if rules.size is None else rules.size(payload, receipt.key, receipt.event)
    return NewCallback(
        platform=RECEIPTS,
        payload=payload,
        key=receipt.key,
        event=receipt.event,
        lane=Lane.NORMAL,
        expires_s=rules.expires_s,
        idempotency_key=None,
        content_type=_JSON,
        traceparent=receipt.traceparent,
        group="",
        body_bytes=size,
    )


def shift_s(now: float) -> float:
    """Return how far wall time is ahead of the relay clock, whose present is ``now``: the same for a whole commit."""
    return wall_shift_s(now, wall_s())
