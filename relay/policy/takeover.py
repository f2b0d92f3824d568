"""What a new owner of a platform makes of the attempts that the former owner left without an answer.

The former owner recorded an attempt before the first byte of its request. It may have been stopped at any point: the
request was never sent, is on its way, or was answered and the answer was lost. So two rules hold (spec, "Several
hosts", Ownership):

1. The slot counts as used until the request can no longer reach the platform, and one full window from then.
2. The batch goes again under its id, but not while the former owner's request may still arrive.

A request reaches the platform at the latest ``SEND_WITHIN_S`` after its claim plus the platform's timeout. Example: a
claim at 100 s with a timeout of 10 s, taken over at 105 s: the slot counts as answered at 112 s, and the batch goes
again from 112 s on.
"""

from typing import NamedTuple

SEND_WITHIN_S = 2.0  # the first byte of a request is sent this long after its claim was asked for, or not at all


class LeftBehind(NamedTuple):
    """How an unanswered attempt of a former owner counts; times on the relay clock."""

    answered_at: float  # its slot is free one window later
    again_at: float  # its batch does not go again before


def left_behind(*, claimed_at: float, timeout_s: float, taken_at: float) -> LeftBehind:
    """Return how an attempt counts that was claimed at ``claimed_at`` and is met without an answer at ``taken_at``."""
    silent_at = claimed_at + SEND_WITHIN_S + timeout_s
    return LeftBehind(max(taken_at, silent_at), silent_at)
