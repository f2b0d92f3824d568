"""How long to wait before the n-th re-send, and how much later than named."""

import random

from tenacity import RetryCallState, wait_exponential

_LATE = 0.1  # of the wait
_LATEST_S = 30.0  # spreads relays as well as two hours would: a day's wait must not lose them


def backoff_s(n: int, *, base_s: float, cap_s: float, rng: random.Random) -> float:
    """Return the seconds to wait before the ``n``-th re-send (from 1): d = min(cap, base * 2^(n-1)), from [d/2, d].

    With a base of 2 s the first re-send waits 1 to 2 s, the second 2 to 4 s, the third 4 to 8 s. d is tenacity's
    ``wait_exponential`` used as a pure function: the wait becomes a stored time, tenacity never sleeps it. "Equal
    jitter" (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/) keeps half of d certain, so that
    the schedule a platform asked for is kept, and spreads the other half. Raises ``ValueError`` when ``n`` is below 1.
    """
    if n < 1:
        raise ValueError(f"re-sends are counted from 1, not {n}")
    state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]  # a wait strategy reads attempt_number only
    state.attempt_number = n
    # exp_base is a float on purpose: 2.0 ** n overflows into tenacity's cap, the integer 2 ** n would be computed.
    ceiling_s = wait_exponential(multiplier=base_s, max=cap_s, exp_base=2.0)(state)
    return rng.uniform(ceiling_s / 2, ceiling_s)


def jittered_s(wait_s: float, rng: random.Random) -> float:
    """Return a wait that somebody named, made longer by up to a tenth, 30 s at most: 60 s become 60 to 66 s.

    So relays that were told the same time do not all return in one moment.
    """
    return wait_s + min(wait_s * _LATE, _LATEST_S) * rng.random()
