"""Made-up order callbacks that look like real ones: about 400 bytes, a life of six statuses per order."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

STATUSES = ("paid", "packed", "shipped", "in_transit", "out_for_delivery", "delivered")
_FIRST_AT = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
_GOODS = (
    ("TEA-LJ-250", "Longjing green tea 250 g", 128_00),
    ("MUG-CEL-01", "Celadon mug", 45_50),
    ("LMP-DSK-04", "Desk lamp, warm white", 219_00),
    ("BAG-CNV-11", "Canvas bag", 39_90),
    ("NUT-MIX-500", "Mixed nuts 500 g", 59_00),
)
_CARRIERS = ("SF Express", "ZTO", "YTO", "JD Logistics")


class OrderCallback(NamedTuple):
    """One status change of one order; ``step`` counts from 0 within the order."""

    order: str
    step: int
    event: str
    payload: bytes


def order_callbacks(orders: int, *, seed: int) -> Iterator[list[OrderCallback]]:
    """Yield each order's callbacks in their order."""
    rng = random.Random(seed)
    for number in range(orders):
        order = f"SO-2026-{number + 1:06d}"
        sku, name, cents = rng.choice(_GOODS)
        quantity = rng.randint(1, 4)
        tracking = f"{rng.choice('SZYJ')}{rng.randrange(10**11, 10**12)}"
        carrier = rng.choice(_CARRIERS)
        at = _FIRST_AT + timedelta(seconds=rng.randrange(86_400))
        life = []
        for step, status in enumerate(STATUSES):
            at += timedelta(minutes=rng.randint(3, 600))
            payload = {
                "event": f"order.{status}",
                "order_id": order,
                "sequence": step + 1,
                "status": status,
                "occurred_at": at.isoformat(),
                "shop": {"id": "shop-a", "channel": "marketplace", "region": "CN-ZJ"},
                "amount": {"currency": "CNY", "total": f"{cents * quantity / 100:.2f}"},
                "items": [{"sku": sku, "name": name, "quantity": quantity}],
                "parcel": {"carrier": carrier, "tracking_no": tracking} if step >= 2 else None,
                "previous": STATUSES[step - 1] if step else None,
            }
            life.append(OrderCallback(order, step, f"order.{status}", msgspec.json.encode(payload)))
        yield life
