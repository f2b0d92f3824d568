"""How far a platform's objective was kept lately."""

import math
from typing import Annotated

from msgspec import Struct

from relay.views.moments import told


class ObjectiveView(Struct, frozen=True, kw_only=True):
    """What part of a platform's callbacks was in time, over an hour and a day."""

    within_seconds: Annotated[float, told("how late a callback may be, from when it might go to its delivery")]
    share: Annotated[float, told("what part of them must be in time; 1 is all")]
    ratio_1h: Annotated[float, told("what part was in time, of those that ended in the last hour or are overdue")]
    ratio_24h: Annotated[float, told("the same over a day")]
    remaining_1h: Annotated[float, told("of what may be late in an hour, the part that is left; 0: none")]
    remaining_24h: Annotated[float, told("the same over a day")]
    burns: Annotated[float | None, told("how many times as fast as it may: late ones of the last hour; null: none may")]
    overdue: Annotated[int, told("callbacks that wait and are late already, at least")]


def percent(part: float) -> str:
    """Return a part of 1 as people read it, never more than it is: ``97.3 %``; ``99.9 %`` of 0.99996."""
    tenths = math.floor(part * 1000 + 1e-6)
    return f"{tenths / 10:g} %"
