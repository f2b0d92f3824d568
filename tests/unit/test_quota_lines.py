"""The lines of a quota that is kept per group: those of idle groups go, and no more than those."""

import pytest
from relay.core.calendar import Calendar
from relay.core.model import Quota, Rate, Weight
from relay.store.quota_lines import QuotaSlots

_NOW = 1000.0


@pytest.mark.parametrize(
    ("rate", "burst"),
    [
        (Rate(5, 3600.0), None),
        (Rate(5, 3600.0, "items"), None),
        (Rate(5, 86400.0, calendar=Calendar("day", 0)), None),
        (Rate(5, 1.0), 1),
    ],
    ids=["requests", "items", "calendar day", "burst"],
)
def test_what_a_shop_used_counts_however_many_shops_there_are(rate: Rate, burst: int | None) -> None:
    """Of hundreds of shops those that sent nothing lately are forgotten, and one whose window goes on is not."""
    slots = QuotaSlots(Quota("q", (rate,), burst, per_group=True), frozenset(("shop",)), lambda: 0.0, {})
    slots.line("a", _NOW).take(1, _NOW, 0, Weight(1, 5))
    slots.line("a", _NOW).release(1, _NOW, 0.0)
    before = slots.line("a", _NOW).free_at(_NOW), slots.line("a", _NOW).usage(_NOW, 0)[0].used
    assert before > (_NOW, 0)
    for number in range(300):
        slots.line(str(number), _NOW)
    assert (slots.line("a", _NOW).free_at(_NOW), slots.line("a", _NOW).usage(_NOW, 0)[0].used) == before
