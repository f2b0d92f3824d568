"""Which process a lease belongs to, and the proof that this process has ended.

A host that was killed and is started again by systemd finds leases under its own name. It may take them at once only
if the former process has certainly ended. Then the kernel has closed its sockets, and nothing of it is on its way. The
proof holds when all of this is so; otherwise the host waits like any other:

1. The same boot of the same kernel, and the same process namespace. In another one the same number means nothing.
2. No process has the number, or the one that has it started at another time: the number was given out again.
"""

from collections.abc import Callable
from typing import Final, NamedTuple, Self

HIDDEN: Final = -1  # a process has the number, and when it started is not shown to us


class Process(NamedTuple):
    """A process, told apart from every other that ever ran anywhere."""

    boot_id: str
    namespace: str  # of process numbers, such as ``pid:[4026531836]``
    number: int
    started: int  # clock ticks after the boot (proc(5), /proc/PID/stat, field 22)

    def __str__(self) -> str:
        return f"{self.boot_id} {self.namespace} {self.number} {self.started}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the process that ``str`` made ``text`` of, or None for anything else."""
        boot_id, *rest = text.split(" ")
        if len(rest) != 3 or not (rest[1].isdecimal() and rest[2].isdecimal()):
            return None
        return cls(boot_id, rest[0], int(rest[1]), int(rest[2]))


def has_ended(former: Process | None, mine: Process, started: Callable[[int], int | None]) -> bool:
    """Say whether ``former`` has certainly ended.

    ``started(number)`` returns when the process of that number started, as ``Process.started``, or None without one;
    ``HIDDEN`` where that is not shown: it may be the former one.
    """
    if former is None or (former.boot_id, former.namespace) != (mine.boot_id, mine.namespace):
        return False
    return former != mine and started(former.number) not in (former.started, HIDDEN)
