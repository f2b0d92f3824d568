"""The only module that reads clocks.

Every stored time is on the *relay clock*: seconds since the epoch, computed as ``CLOCK_BOOTTIME`` plus an offset. The
offset is kept together with the boot id. So while the machine is up, a step of the wall clock moves nothing. After a
reboot the offset is computed from the wall clock again (SPEC 6, "Stored times").
"""

import ctypes
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

LEAP_S = 86400.0
_TIMEX_BYTES, _TIME_ERROR = 256, 5  # struct timex has 208
_ASK_SYSTEMD = ("timedatectl", "show", "--property=NTPSynchronized", "--value")
_SYSTEMD_S = 5.0  # it may have to be started for the answer


class Clock(Protocol):
    """The clock that decisions and stored columns use."""

    def now(self) -> float:
        """Return seconds on the relay clock; never goes back while the machine is up."""
        ...


@dataclass(frozen=True, slots=True)
class ClockState:
    """What a store keeps so that a restart continues the same clock."""

    boot_id: str
    offset_s: float
    last_at: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """The offset to use, and whether times stored earlier can be compared with new ones."""

    offset_s: float
    continuous: bool
    ahead_s: float = 0.0  # after a reboot: how far the wall clock is ahead of the last stored time


@dataclass(frozen=True, slots=True)
class Leap:
    """A wall clock that was more than a day ahead after a reboot, and that nothing had set by then.

    Either the machine was off for so long, or its clock is wrong.
    """

    at: float  # on the relay clock, when it was seen
    ahead_s: float

    @property
    def doubted_until(self) -> float:
        """When it is taken for right: a person has had a day to look."""
        return self.at + LEAP_S


def resume(stored: ClockState | None, *, boot_id: str, boottime_s: float, wall_s: float) -> Resumed:
    """Decide the relay clock's offset at start.

    1. The same boot: the stored offset stays, whatever the wall clock says.
    2. Another boot: the offset follows from the wall clock.
    3. Another boot, and the wall clock is behind the last stored time: the clock continues from that time and is not
       ``continuous``. Then kept slots must be counted from the start.
    """
    if stored is None:
        return Resumed(wall_s - boottime_s, continuous=True)
    if stored.boot_id == boot_id:
        return Resumed(stored.offset_s, continuous=True)
    if wall_s >= stored.last_at:
        return Resumed(wall_s - boottime_s, continuous=True, ahead_s=wall_s - stored.last_at)
    return Resumed(stored.last_at - boottime_s, continuous=False)


class RelayClock:
    """The real clock: boot time plus a fixed offset."""

    __slots__ = ("offset_s",)

    def __init__(self, offset_s: float) -> None:
        self.offset_s = offset_s

    def now(self) -> float:
        """Return seconds on the relay clock."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) + self.offset_s


def boottime_s() -> float:
    """Seconds since the machine booted, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall_s() -> float:
    """Return the wall clock's seconds since the epoch: for people and certificates, never for decisions."""
    return time.time()


def wall_shift_s(now: float, wall: float) -> float:
    """Return what to add to a time on the relay clock to get the wall time, in tenths of a second.

    It is 0 unless the wall clock was set after the start: a difference below 1 s comes from reading two clocks.
    """
    shift_s = wall - now
    return round(shift_s, 1) if abs(shift_s) >= 1.0 else 0.0


def elapsed_s() -> float:
    """Return a high-resolution reading for measuring durations within this process."""
    return time.perf_counter()


def boot_id() -> str:
    """Return the kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def is_synchronized() -> bool:
    """Tell whether a time service has set the wall clock, as the kernel knows it (adjtimex(2)).

    Who may not ask the kernel, as under ``ProtectClock=`` of the unit, asks systemd, which asks it.
    """
    state: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))  # zeros: it is only read
    if state >= 0:
        return state < _TIME_ERROR
    try:
        told = subprocess.run(_ASK_SYSTEMD, capture_output=True, timeout=_SYSTEMD_S, check=False)  # noqa: S603 - a constant
    except (OSError, subprocess.TimeoutExpired):
        return False  # nobody knows
    return told.stdout.strip() == b"yes"


def monotonic_s() -> float:
    """Return ``CLOCK_MONOTONIC``, which systemd wants in the message about a reload."""
    return time.monotonic()
