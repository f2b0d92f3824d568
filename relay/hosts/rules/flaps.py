"""The flap rule: a host that keeps losing its leases while it is alive stops asking for them for a while.

Such a host reaches the store now and then only, or is frozen again and again. Each loss costs its platforms a take-over
of 16 s. A crash and a restart is no flap: the new process starts without any.
"""

from relay.hosts.rules.spans import FLAP_WINDOW_S, FLAPS, REST_S


class Flaps:
    """Counts the leases that this process lost by expiry. Times are on the boot-time clock."""

    def __init__(self) -> None:
        self._lost_at: list[float] = []
        self.rests_until = 0.0

    def lost(self, now: float) -> bool:
        """Note that leases were lost by expiry; return whether the host rests from now on."""
        self._lost_at = [at for at in self._lost_at if now - at < FLAP_WINDOW_S]
        self._lost_at.append(now)
        if len(self._lost_at) < FLAPS:
            return False
        self._lost_at.clear()
        self.rest(now)
        return True

    def rest(self, now: float) -> None:
        """Only accept for a while."""
        self.rests_until = now + REST_S

    def resting(self, now: float) -> bool:
        """Say whether the host only accepts now, as long as another would take what it leaves."""
        return now < self.rests_until
