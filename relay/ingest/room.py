"""Memory for what clients send: counted in bytes and reserved before it is used.

One account has all of it: what is being received, decoded, searched, and what waits for its commit. Uploads that are
still coming in may have a part of it only, and they make way for complete posts. So an upload that never ends takes
nothing from a complete post. The upload that has cost the most makes way first. Its cost is its bytes times the seconds
they have been held: 1 MB that came within 0.1 s costs little, 1 MB that has stalled for half a minute costs 300 times
more.

Where several processes take posts in (``ingest.processes``) the account is one for all of them: each tells the others
what it holds, and counts what they hold as taken.
"""

from collections.abc import Callable
from typing import Protocol

from relay.core.clock import elapsed_s
from relay.web.refusal import Refusal

# The last part of the room is for small posts, so that a few large ones do not shut out all others.
_SMALL_BYTES = 64 * 1024
_KEPT_FOR_SMALL = 8


class Beside(Protocol):
    """The other processes that use the same room."""

    def tell(self, held_bytes: int) -> None:
        """Tell them how many bytes this process holds."""

    def others(self) -> int:
        """Return how many bytes they hold."""


class Alone:
    """No other process uses the room."""

    def tell(self, held_bytes: int) -> None:
        """Nobody is told."""

    def others(self) -> int:
        """Return 0."""
        return 0


class Upload:
    """The bytes of one body that is still coming in."""

    __slots__ = ("_give_up", "_room", "_sum_of_times", "refusal", "size")

    def __init__(self, room: "Room", give_up: Callable[[], None]) -> None:
        self.size = 0
        self.refusal: Refusal | None = None  # why it was given up
        self._room = room
        self._give_up = give_up
        self._sum_of_times = 0.0  # of the times at which each byte arrived

    def grow(self, size: int) -> None:
        """Hold ``size`` bytes more. Raises ``Refusal`` (``overloaded``) if this upload itself must make way."""
        if self.refusal is not None:
            raise self.refusal
        self._room.make_way(self, size)
        self.size += size
        self._sum_of_times += size * elapsed_s()
        self._room.uploading(size)

    def cost(self, now_s: float) -> float:
        """Return the bytes it holds times the seconds each has been held."""
        return self.size * now_s - self._sum_of_times

    def end(self) -> None:
        """Give everything back; safe to call twice."""
        self._room.forget(self)
        self.size = 0

    def make_way(self) -> None:
        """End it from outside: set ``refusal`` and call ``give_up``, so that its reader stops."""
        self.refusal = _slow()
        self.end()
        self._give_up()


ALONE: Beside = Alone()


class Room:
    """The bytes of all requests: ``max_bytes`` in all, of which ``max_uploading_bytes`` for uploads.

    One request alone may exceed a bound; else a large one could never be accepted.
    """

    def __init__(self, *, max_bytes: int, max_uploading_bytes: int, beside: Beside = ALONE) -> None:
        """``max_bytes`` is for all processes together, ``max_uploading_bytes`` for this one."""
        self.max_bytes = max_bytes
        self.max_uploading_bytes = max_uploading_bytes
        self.held_bytes = 0
        self.uploading_bytes = 0
        self._beside = beside
        self._uploads: set[Upload] = set()

    def upload(self, give_up: Callable[[], None]) -> Upload:
        """Return the account of a body that starts to come in. ``give_up`` is called if it must make way."""
        upload = Upload(self, give_up)
        self._uploads.add(upload)
        return upload

    def forget(self, upload: Upload) -> None:
        """Stop counting an upload."""
        self._uploads.discard(upload)
        self.uploading(-upload.size)

    def uploading(self, size: int) -> None:
        """Count ``size`` more bytes of uploads; fewer if negative."""
        self.uploading_bytes += size
        self._beside.tell(self.held_bytes + self.uploading_bytes)

    def make_way(self, upload: Upload, size: int) -> None:
        """End the costliest uploads until ``size`` more bytes fit.

        Raises ``Refusal`` if ``upload`` is one of them, or if complete requests have the room.
        """
        taken_bytes = self.held_bytes + self._beside.others()
        free_bytes = self._most(upload.size + size) - taken_bytes
        if taken_bytes and upload.size + size > free_bytes:
            raise self._full()
        most = min(self.max_uploading_bytes, free_bytes)
        now_s = 0.0
        while self.uploading_bytes + size > most and self.uploading_bytes > upload.size:
            now_s = now_s or elapsed_s()
            costliest = self._costliest(now_s)
            if costliest is upload:
                raise _slow()
            costliest.make_way()

    def hold(self, size: int, had: int) -> None:
        """Hold ``size`` more bytes of a complete request that has ``had``; fewer if negative.

        Uploads make way for them. Raises ``Refusal`` if they do not fit even so.
        """
        if size > 0:
            others_bytes = self._beside.others()
            most = self._most(had + size) - others_bytes
            if self.held_bytes + size > most and self.held_bytes + others_bytes > had:
                raise self._full()
            while self.uploading_bytes and self.held_bytes + self.uploading_bytes + size > most:
                self._costliest(elapsed_s()).make_way()
        self.held_bytes += size
        self._beside.tell(self.held_bytes + self.uploading_bytes)

    def _most(self, size: int) -> int:
        """Return how many bytes there may be in all for a request of ``size`` to pass."""
        return self.max_bytes if size > _SMALL_BYTES else self.max_bytes + self.max_bytes // _KEPT_FOR_SMALL

    def _costliest(self, now_s: float) -> Upload:
        return max(self._uploads, key=lambda each: each.cost(now_s))

    def _full(self) -> Refusal:
        taken_bytes = self.held_bytes + self._beside.others()
        return Refusal("overloaded", f"{taken_bytes} bytes already wait for the disk; repeat in a moment")


def _slow() -> Refusal:
    return Refusal(
        "overloaded",
        "unfinished uploads fill the memory meant for them, and this one held most of it for longest; send it again",
        close=True,
    )
