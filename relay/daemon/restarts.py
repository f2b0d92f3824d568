"""Slows down a daemon that fails again and again: the first restarts are at once, later ones wait longer and longer.

systemd 252 always waits the same time before a restart (``RestartSteps=`` came with 254), and counts restarts for as
long as the unit is up. Here starts that did not end well are counted, in a file of the unit's runtime directory.
systemd keeps that directory over restarts and removes it after a stop.
"""

from pathlib import Path

_LONGEST_S = 30.0  # systemd gives a start 90 s
_STEADY_S = 600.0  # a daemon that ran this long did not fail because of its start


class Restarts:
    """Counts in ``directory`` (``$RUNTIME_DIRECTORY``). Without one there is no service manager, and no count."""

    def __init__(self, directory: str) -> None:
        self._file = Path(directory.partition(":")[0]) / "restarts" if directory else None
        self.failed = 0

    @property
    def wait_s(self) -> float:
        """Seconds to wait before the start goes on: 0, 0, 2, 4, 8, 16, 30, 30 after 0, 1, 2, ... failures."""
        return min(_LONGEST_S, 2.0 ** (self.failed - 1)) if self.failed > 1 else 0.0

    def begin(self, now: float) -> None:
        """Count a start as failed, at ``now`` seconds since boot, until ``ended_well`` is called."""
        self.failed = self._failed_before(now)
        if self._file is not None:
            self._file.write_text(f"{self.failed + 1} {now}\n")

    def ended_well(self) -> None:
        """Forget what was counted."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _failed_before(self, now: float) -> int:
        if self._file is None or not self._file.exists():
            return 0
        try:
            count, started_at = self._file.read_text().split()
            return 0 if now - float(started_at) > _STEADY_S else int(count)
        except ValueError:  # cut off while it was written, so a start did not end well
            return 1
