"""What a platform remembers between requests: its tokens, what it has taken, and where its episode stands."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from relay.standin.personalities.exchange import Callback, PlatformRequest
from relay.standin.personalities.options import Options

Fate = Literal["taken", "refused", "later"]
TokenFault = Literal["unknown", "expired"]


class Tokens:
    """Hands out tokens one after the other. A token ends by its time, by its uses, or when the next one is fetched.

    With ``grace_s`` it lives that much longer when the next one is fetched (WeChat: five minutes).
    """

    def __init__(self, options: Options, *, first: str = "", grace_s: float = 0.0) -> None:
        self._options = options
        self._grace_s = grace_s
        self.issued = 0
        self._ends: dict[str, float] = {first: math.inf} if first else {}
        self._uses: Counter[str] = Counter()
        self._last = first

    def issue(self, now: float) -> str:
        """Return a new token; the one before ends, at once or after the grace."""
        if self._last:
            self._ends[self._last] = min(self._ends[self._last], now + self._grace_s)
        self.issued += 1
        self._last = f"token-{self.issued}-{self._options.seed or 'sandbox'}"
        self._ends[self._last] = now + self._options.token_ttl_s
        return self._last

    def use(self, token: str, now: float) -> TokenFault | None:
        """Count a use and return None, or what is wrong with the token."""
        ends = self._ends.get(token)
        if ends is None:
            return "unknown"
        if now >= ends or (self._options.token_requests and self._uses[token] >= self._options.token_requests):
            return "expired"
        self._uses[token] += 1
        return None


class Memory:
    """The state of one platform."""

    def __init__(self, options: Options, *, first_token: str = "", grace_s: float = 0.0) -> None:
        self.options = options
        self.tokens = Tokens(options, first=first_token, grace_s=grace_s)
        self.taken: dict[str, bytes] = {}  # the name of an order or event there -> the body taken last
        self.counts: Counter[str] = Counter()
        self._put_off: set[bytes] = set()
        self._requests = 0

    def over_s(self, request: PlatformRequest, callbacks: Sequence[bytes]) -> float | None:
        """Count a request that passed all checks; return None, or how long it should wait where it is above the limit.

        With ``over_at=300`` and ``over_for=20`` these are requests 300 to 319, and those that carry too much.
        """
        self._requests += 1
        begin = self.options.over_at
        is_over = bool(begin) and begin <= self._requests < begin + self.options.over_for
        wait_s = self.options.over_wait_s if is_over else request.weigh(callbacks)
        self.counts["over"] += wait_s > 0 or is_over
        return wait_s if wait_s > 0 or is_over else None

    def fate(self, callback: Callback) -> Fate:
        """Decide what becomes of a callback."""
        if self.options.fails(callback.raw, callback.fields):
            return "refused"
        if callback.raw not in self._put_off and self.options.fails_once(callback.raw):
            self._put_off.add(callback.raw)
            return "later"
        return "taken"

    def figures(self) -> dict[str, int]:
        """Return what was counted."""
        return {"tokens": self.tokens.issued, **self.counts}
