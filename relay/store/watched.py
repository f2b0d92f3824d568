"""Tells who watches a store of its changes, in the same way for every backend."""

from collections.abc import Callable

from relay.core.clock import Leap


class WatchedStore:
    """Part of every backend, which calls ``_changed``, ``_released`` and ``_taken`` on the loop after its commits."""

    leap: Leap | None = None  # of the wall clock over the last reboot, where it is doubted

    def __init__(self) -> None:
        self._watchers: list[Callable[[str, int], None]] = []
        self._operation_watchers: list[Callable[[], None]] = []
        self._taking_watchers: list[Callable[[], None]] = []

    def watch(self, changed: Callable[[str, int], None]) -> None:
        """Call ``changed(platform, count)`` on the loop after a commit that gave the platform something to do."""
        self._watchers.append(changed)

    def watch_operations(self, released: Callable[[], None]) -> None:
        """Call ``released()`` on the loop after a commit that lets an operation go on which waited for a batch."""
        self._operation_watchers.append(released)

    def watch_taken(self, taken: Callable[[], None]) -> None:
        """Call ``taken()`` on the loop when platforms have become this host's; a store of one host never does."""
        self._taking_watchers.append(taken)

    def _changed(self, platform: str, count: int) -> None:
        for changed in self._watchers:
            changed(platform, count)

    def _released(self) -> None:
        for released in self._operation_watchers:
            released()

    def _taken(self) -> None:
        for taken in self._taking_watchers:
            taken()
