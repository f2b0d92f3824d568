"""What a planned reload does to a queue: how long what waits takes now and would take then."""

from typing import Any

import pytest
from relay.admin.standing.after_change import effects
from relay.admin.standing.backlog import platform_view
from relay.views.configuration import ChangeView, ReloadView
from relay.views.live import LiveFacts
from relay.views.queue import QueueFacts, QuotaUse

NOW = 1000.0
OWN, SHARED = QuotaUse("platform:shop-a", 60.0, 6, 6), QuotaUse("wechat-app", 60.0, 60, 0)


def found(
    changes: dict[str, Any], *, quotas: list[QuotaUse], paused: bool = False, pending: int = 54
) -> list[tuple[Any, ...]]:
    """Return what changes of shop-a do, which packs one callback into a request."""
    view = platform_view(
        "shop-a",
        queue=QueueFacts(pending=pending, quotas=quotas),
        live=LiveFacts(paused=paused),
        terms=None,
        flow=None,
        now=NOW,
    )
    named = [
        ChangeView(path=f"platforms.shop-a.{key}", old=None, new=new, needs_restart=False)
        for key, new in changes.items()
    ]
    planned = ReloadView(applied=False, changes=named, added=[], removed={}, problems=[])
    return [tuple(each) for each in effects(planned, [view], {"platforms": {"shop-a": {"batch": {"max_items": 1}}}})]


@pytest.mark.parametrize(
    ("changes", "quotas", "then_s", "now_s"),
    [
        ({"rate": "30/min"}, [OWN], 60.0, 540.0),  # 6 of 30 slots are used: 24 go at once, 30 in a minute
        ({"rate": ["30/min", "6/h"]}, [OWN], 28800.0, 540.0),
        ({"batch.max_items": 9}, [OWN], 60.0, 540.0),
        ({"rate": None}, [OWN, SHARED], 0.0, 540.0),  # the shared one has room for all
        ({"rate": None}, [OWN], None, 540.0),
        ({"rate": "6/min"}, [], 480.0, None),
        ({"burst": 2, "rate": "60/min"}, [OWN], 52.0, 540.0),  # 54 of 54 slots are free, but 2 go back to back
        ({"rate": ["60/min", "9/day@+08:00"]}, [OWN], None, 540.0),  # nobody says when the next day begins
    ],
)
def test_a_change_has_an_effect(
    changes: dict[str, Any], quotas: list[QuotaUse], then_s: float | None, now_s: float | None
) -> None:
    """A rate, a batch size, a limit that goes or comes; shared limits go on holding."""
    assert found(changes, quotas=quotas) == [("shop-a", 54, now_s, then_s)]


def test_nothing_else_has_one() -> None:
    """Of other settings, of an empty queue, and of a platform that is sent nothing."""
    assert found({"timeout": "5s"}, quotas=[OWN]) == []
    assert found({"rate": "30/min"}, quotas=[OWN], pending=0) == []
    assert found({"rate": "30/min"}, quotas=[OWN], paused=True) == []
