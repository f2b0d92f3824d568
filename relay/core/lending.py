"""Slots that others take of the limits the relay keeps to: whoever else uses the same app key.

A slot that was taken is held until one full window after its request was answered (``release``). Where nobody says so,
it counts from ``UNSEEN_S`` after the time by which the request had to be sent: no request takes longer.
"""

from typing import Final, NamedTuple

OTHERS: Final = "_others"
"""All who take slots through the API, as one party in the line in front of a limit; no platform has this name."""

UNSEEN_S: Final = 60.0
"""A slot that is not released counts from so long after the time by which its request had to be sent."""


class LimitName(NamedTuple):
    """Whose slots: those that a request to ``platform`` takes, or those of the shared quota ``quota``."""

    platform: str
    quota: str
    group: str = ""


class SlotWish(NamedTuple):
    """So many ``slots`` at once, each for a request that is sent ``send_within_s`` after it was taken at the latest."""

    of: LimitName
    slots: int
    send_within_s: float
    waits: bool  # stands in line when there are none


class LentSlots(NamedTuple):
    """Slots that were handed out: their public names, and by when (relay clock) their requests must be sent."""

    ids: list[str]
    send_by: float
