"""The mark of a gate tells whether what a restart must know has changed, without making it."""

import json
import math
from typing import Any

import pytest
from relay.core.model import Rate
from relay.policy.gate.breaker import Breaker, BreakerTerms
from relay.policy.gate.orders import GroupLimit, GroupOrders
from relay.policy.gate.platform import Gate


def _gate() -> Gate:
    return Gate(Breaker(BreakerTerms(5, 30.0)), base_s=2.0, cap_s=600.0)


def _leaves(kept: dict[str, Any], at: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in kept.items():
        found |= _leaves(value, f"{name}.") if isinstance(value, dict) else {at + name: value}
    return found


def _loaded(name: str) -> Gate:
    """A gate loaded with another value under one name of the dump."""
    kept = _gate().dump_own()
    owner, _, leaf = name.rpartition(".")
    place = kept[owner] if owner else kept
    value = place[leaf]
    place[leaf] = not value if isinstance(value, bool) else "else" if isinstance(value, str) else 7
    gate = _gate()
    gate.load(kept)
    return gate


@pytest.mark.parametrize("name", sorted(_leaves(_gate().dump_own())))
def test_whatever_changes_the_dump_changes_the_mark(name: str) -> None:
    """Each value of the dump on its own; the time of the last acceptance is compared apart."""
    changed = _loaded(name)
    assert changed.dump_own() != _gate().dump_own()
    assert (changed.mark() != _gate().mark()) == (name != "last_accepted_at")


def test_orders_of_operators_change_the_mark() -> None:
    """A pause of a group is kept with the gate, and one that was ended is gone from it."""
    gate = _gate()
    before = gate.mark()
    gate.orders.pause("shop", "inventory", 1.0, 2.0)
    during = gate.mark()
    gate.orders.lapse(3.0)
    assert during != before == gate.mark()


def test_orders_of_operators_are_kept_with_their_ends() -> None:
    """A pause or limit that ends by itself still does after a restart, one without an end goes on."""
    gate = _gate()
    for group, until in (("ends", 60.0), ("stays", math.inf)):
        gate.orders.pause(group, "inventory", 1.0, until)
        gate.orders.limits[group] = GroupLimit((Rate(5, 1.0),), until, "sale")
    again = GroupOrders.load(json.loads(json.dumps(gate.orders.dump())))
    assert again == gate.orders
    assert [again.pauses[group].until for group in ("ends", "stays")] == [60.0, math.inf]
    assert [again.limits[group].until for group in ("ends", "stays")] == [60.0, math.inf]
