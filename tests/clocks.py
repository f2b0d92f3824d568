"""A clock that tests move."""


class FakeClock:
    """Tells the time it was set to; starts at a round moment, so that sums of halves and quarters stay exact."""

    def __init__(self, at: float = 1_700_000_000.0) -> None:
        self._at = at

    def now(self) -> float:
        """Return seconds on the relay clock."""
        return self._at

    def advance(self, seconds: float) -> float:
        """Let ``seconds`` pass and return the new time."""
        assert seconds >= 0
        self._at += seconds
        return self._at

    def advance_to(self, at: float) -> None:
        """Let time pass until ``at``; does nothing when that is over."""
        self._at = max(self._at, at)
