"""What operators watch: computed once for all who watch, twice a second at most, and told as server-sent events.

Whoever joins gets one ``state`` event with all topics, then an event of a topic when that changed. While nobody
watches nothing is computed. A look that takes long is followed by a longer rest, so that looking takes at most a
twentieth of a core however large the backlog.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from relay.core.clock import elapsed_s
from relay.core.errors import StoreError
from relay.core.raw import JsonObject
from relay.web.response import encoded

EVERY_S: Final = 0.5
COMMENT_S: Final = 15.0
_REST: Final = 19  # a rest is at least so many times as long as the look before it
COMMENT: Final = b": still here\n\n"


class Watcher(Protocol):
    """One who watches."""

    def send(self, event: bytes) -> bool:
        """Take an event without waiting; return False when it is gone or was cut off, and gets no more."""
        ...

    def end(self) -> None:
        """Be told that no more comes."""
        ...


def whole(_before: Any, now: Any) -> Iterable[Any]:
    """Tell all of a topic when any of it changed."""
    return (now,)


@dataclass(frozen=True, slots=True)
class Topic:
    """One kind of event. ``look`` returns what stands now, as plain JSON; ``changes`` what to tell of a change."""

    name: str
    look: Callable[[], Awaitable[Any]]
    changes: Callable[[Any, Any], Iterable[Any]] = whole


class Feed:
    """Looks at the topics and tells the watchers. To add a kind of event, give it one more topic."""

    def __init__(self, topics: Iterable[Topic], *, failed: Callable[[BaseException], None]) -> None:
        """``failed`` is told of a bug in a topic; the watchers are let go then, and may come back."""
        self._topics = tuple(topics)
        self._failed = failed
        self._watchers: set[Watcher] = set()
        self._stands: JsonObject = {}
        self._looking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    async def join(self, watcher: Watcher) -> None:
        """Send the ``state`` event to ``watcher``, then every change until it leaves or is gone."""
        async with self._looking:
            if self._task is None:
                self._stands = {}
                await self._look()
            if watcher.send(event("state", self._stands)):
                self._watchers.add(watcher)
        if self._task is None and self._watchers:
            self._task = asyncio.create_task(self._tell(), name="events for operators")
            self._task.add_done_callback(self._ended)

    def leave(self, watcher: Watcher) -> None:
        """Send ``watcher`` nothing more."""
        self._watchers.discard(watcher)

    async def _tell(self) -> None:
        rest_s, commented_s = EVERY_S, elapsed_s()
        while self._watchers:
            await asyncio.sleep(rest_s)
            began_s = elapsed_s()
            async with self._looking:
                self._send(await self._look())
            if began_s - commented_s >= COMMENT_S:
                commented_s = began_s
                self._send([COMMENT])
            rest_s = max(EVERY_S, _REST * (elapsed_s() - began_s))

    async def _look(self) -> list[bytes]:
        """Look at every topic; return the events for what changed. What the store cannot tell now stays as it was."""
        events = []
        for topic in self._topics:
            try:
                now = await topic.look()
            except StoreError:
                continue
            before = self._stands.get(topic.name)
            if now != before:
                self._stands[topic.name] = now
                if before is not None:
                    events += [event(topic.name, told) for told in topic.changes(before, now)]
        return events

    def _send(self, events: Iterable[bytes]) -> None:
        """Send events together, so that each watcher is written to once."""
        together = b"".join(events)
        if together:
            self._watchers -= {watcher for watcher in self._watchers if not watcher.send(together)}

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)
        for watcher in self._watchers:
            watcher.end()
        self._watchers.clear()


def event(name: str, data: Any) -> bytes:
    """Return one server-sent event (WHATWG HTML section 9.2): JSON without line breaks is one line of data."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encoded(data))


def changed_platforms(before: JsonObject, now: JsonObject) -> Iterable[Any]:
    """Tell the platforms that changed, and those that are gone."""
    known = {each["name"]: each for each in before["items"]}
    items = [each for each in now["items"] if known.pop(each["name"], None) != each]
    yield {"items": items, "gone": [name for name in known if name not in {each["name"] for each in now["items"]}]}


def changed_ledger(before: JsonObject, now: JsonObject) -> Iterable[Any]:
    """Tell the totals, and of the platforms those that changed."""
    known = before["platforms"]
    platforms = {name: each for name, each in now["platforms"].items() if known.get(name) != each}
    yield {**now, "platforms": platforms}


def changed_operations(before: Iterable[JsonObject], now: Iterable[JsonObject]) -> Iterable[Any]:
    """Tell each operation that changed in an event of its own."""
    known = {each["id"]: each for each in before}
    return [each for each in now if known.get(each["id"]) != each]
