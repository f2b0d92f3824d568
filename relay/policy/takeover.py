"""How long a request of a former owner may still reach the platform.

The former owner recorded an attempt before the first byte of its request. It may have been stopped at any point: the
request was never sent, is on its way, or was answered and the answer was lost. So two rules hold for a new owner
(``store/redis/lua/recover.lua`` carries them out):

1. The slot counts as used until the request can no longer reach the platform, and one full window from then.
2. The batch goes again under its id, but not while the former owner's request may still arrive.

Example: a claim at 100 s with a timeout of 10 s, taken over at 105 s: the slot counts as answered at 112 s, and the
batch goes again from 112 s on.
"""

SEND_WITHIN_S = 2.0  # the first byte of a request is sent this long after its claim was asked for, or not at all


def silent_after_s(timeout_s: float) -> float:
    """Return how long after its claim a request may still arrive; ``timeout_s`` covers connecting to answer."""
    return SEND_WITHIN_S + timeout_s
