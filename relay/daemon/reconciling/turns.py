"""Whose turn a nightly comparison is."""

from typing import Protocol


class ComparisonTurns(Protocol):
    """Says which host compares a platform. All but ``mine`` may raise ``StoreError``."""

    def mine(self, platform: str) -> bool:
        """Say whether this host compares a platform now."""
        ...

    async def begin(self, platform: str, at: float) -> bool:
        """Take the turn of the time ``at`` (seconds since 1970); False where it was taken."""
        ...

    async def done(self, platform: str, at: float) -> None:
        """Say that the comparison of that time has ended."""
        ...


class EveryTurn:
    """Every turn is ours: the store is a file of this host."""

    def mine(self, platform: str) -> bool:
        """Return True."""
        return True

    async def begin(self, platform: str, at: float) -> bool:
        """Return True."""
        return True

    async def done(self, platform: str, at: float) -> None:
        """Note nothing: what ran is read from its folder."""
