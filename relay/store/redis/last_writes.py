"""What an owner wrote last, written anew where a server answers that lacks it: a replica that was promoted too early.

Each write does nothing where it was done: a claim and a settlement know their attempt, a lent slot its number. They are
kept in the order in which they were sent: what depends on another one's effect was sent after it.

Each platform's numbers name the server that has all its attempts (``server``). The owner's calls are meant for that one
alone. So nothing is claimed or settled on another server before the last writes are there. A host that takes a platform
over from an owner that ended before it could write anew sees there that attempts may be lost.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from relay.core.clock import Clock, elapsed_s
from relay.core.errors import Fenced, StoreAway
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.lineage import Lineage
from relay.store.redis.server.link import ServerCall, ServerLink, ServerRefused
from relay.store.redis.server.scripts import Script

KEPT_S: Final = 60.0
"""How far behind its primary a replica may have been."""
_MOST_BYTES: Final = 32 << 20  # of all platforms: a minute of some 5,000 callbacks a second
_TOGETHER: Final = 50  # writes in one pipeline
_NOWHERE: Final = Lineage()


@dataclass(slots=True)
class _Platform:
    """What is kept of one platform."""

    writes: "deque[LastWrite]" = field(default_factory=deque)
    size: int = 0
    cut_at_s: float = -math.inf  # when the newest was sent that is not kept because there were too many
    forgotten: bool = False


@dataclass(slots=True)
class LastWrite:
    """Calls that were sent together; without any they are not acknowledged, or it is unknown what became of them."""

    at_s: float
    of: _Platform
    calls: Sequence[ServerCall] = ()
    size: int = 0


class LastWrites:
    """The writes of the last minute, by platform, and which server has them."""

    def __init__(
        self,
        link: ServerLink,
        keys: KeyNames,
        clock: Clock,
        *,
        fence: Callable[[str], str | None],
        script: Callable[[str], Script],
    ) -> None:
        """``fence`` tells under which fence a platform is owned; None: it is not."""
        # Told of each platform that was written anew, and how many attempts were missing there.
        self.told: Callable[[str, int], None] = lambda _platform, _attempts: None
        self._link = link
        self._keys = keys
        self._clock = clock
        self._fence = fence
        self._script = script
        self._kept: dict[str, _Platform] = {}
        self.size = 0  # bytes that are kept, of all platforms
        self._servers: dict[str, Lineage] = {}  # by platform: the server that has all its attempts
        self._writing = asyncio.Lock()
        link.another_server = self.write_anew

    def server(self, platform: str) -> str:
        """Return the run id of the server that calls for a platform are meant for; empty for any."""
        return self._servers.get(platform, _NOWHERE).run_id

    def place(self, platform: str) -> LastWrite:
        """Take a place in the order of writes; its calls are put in by ``keep`` when they are acknowledged."""
        kept = self._kept.setdefault(platform, _Platform())
        now_s = elapsed_s()  # the store's clock jumps where a new server's is ahead
        while kept.writes and kept.writes[0].at_s < now_s - KEPT_S:
            self._drop_first(kept)
        kept.writes.append(write := LastWrite(now_s, kept))
        return write

    def keep(self, write: LastWrite, calls: Sequence[ServerCall]) -> None:
        """Keep the calls of an acknowledged write. Where there are too many bytes, the platform's oldest go."""
        kept = write.of
        if kept.forgotten:
            return
        write.calls = calls
        write.size = sum(len(word) for call in calls for word in call.args if isinstance(word, bytes))
        kept.size += write.size
        self.size += write.size
        while self.size > _MOST_BYTES and kept.writes[0] is not write:
            kept.cut_at_s = self._drop_first(kept)

    def _drop_first(self, kept: _Platform) -> float:
        first = kept.writes.popleft()
        kept.size -= first.size
        self.size -= first.size
        return first.at_s

    async def write(self, platform: str, calls: Sequence[ServerCall]) -> list[Any]:
        """Run what changes a platform, durably, and keep it. Raises the first call's error."""
        write = self.place(platform)
        answers = await self._link.run(calls, durable=True)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        self.keep(write, calls)
        return answers

    def forget(self, platform: str) -> None:
        """Forget the writes of a platform: it is another host's, or taken over anew."""
        self._servers.pop(platform, None)
        if kept := self._kept.pop(platform, None):
            kept.forgotten = True
            self.size -= kept.size

    async def take_over(self, platform: str, former: str) -> Lineage:
        """Note that the server of a platform has all attempts from now on, and return it.

        ``former``: what a former owner noted. Where that owner did not live to write anew what a failover lost, the
        windows count as full. Raises ``StoreAway`` where it is not known which server answers.
        """
        server = self._server_of(platform)
        if server == Lineage():
            raise StoreAway(f"it is not known yet which server has {platform}", sent=False)
        if former != server.text:
            await self._note(platform, server, full=bool(former) and self._link.may_lack(former, server))
        return server

    def begin(self, met: Mapping[str, Lineage]) -> None:
        """Keep the writes of platforms that were taken over at these servers."""
        if any(self._server_of(platform).run_id != server.run_id for platform, server in met.items()):
            raise StoreAway("the server was replaced while platforms were taken over")
        self._servers.update(
            (platform, server) for platform, server in met.items() if self._fence(platform) is not None
        )  # else it was given up meanwhile

    async def write_anew(self, meant: Collection[str] = ()) -> None:
        """Write what was written last anew at each platform of which another server answers now.

        Raises ``StoreAway`` where nobody knows which server answers for a platform that one of those in ``meant`` had.
        """
        async with self._writing:
            for platform in list(self._servers):
                while self.server(platform) not in ("", (server := self._server_of(platform)).run_id):
                    if not server.run_id:
                        break
                    attempts = await self._write_anew(platform, server)
                    if self._server_of(platform) == server and platform in self._servers:
                        self._servers[platform] = server
                        self.told(platform, attempts)
            had = self._servers.items()
            if any(each.run_id in meant and not self._server_of(platform).run_id for platform, each in had):
                raise StoreAway("it is not known yet which server has taken the place of another", sent=False)

    async def _write_anew(self, platform: str, server: Lineage) -> int:
        """Do so at one; return how many attempts were missing. A host that is no owner any more writes nothing.

        What was too much to keep may be missing too: whoever takes the platform over counts its windows as full.
        """
        kept = self._kept.get(platform, _Platform())
        cut = elapsed_s() < kept.cut_at_s + KEPT_S and self._link.may_lack(self._servers[platform].text, server)
        calls = [call for write in kept.writes for call in write.calls]
        recorded = ("HLEN", self._keys.of(platform, "at"))
        before = await self._link.do(*recorded)
        try:
            for first in range(0, len(calls), _TOGETHER):
                again = [self._again(platform, call) for call in calls[first : first + _TOGETHER]]
                for answer in await self._link.run(again):
                    if isinstance(answer, Exception) and not _was_done(answer):
                        raise answer
            await self._note(platform, server, full=cut)
        except Fenced:
            return 0
        return int(await self._link.do(*recorded)) - int(before)

    def _again(self, platform: str, call: ServerCall) -> ServerCall:
        now, _, *words = call.args
        return ServerCall(call.script, call.keys, (now, self._fence(platform) or "", *words))

    def _server_of(self, platform: str) -> Lineage:
        return self._link.lineage_at(self._keys.of(platform, ""))

    async def _note(self, platform: str, server: Lineage, *, full: bool) -> None:
        """Note it; who finds an older note, because this one was lost, only counts windows as full that are not."""
        words = (repr(self._clock.now()), self._fence(platform) or "", server.text, int(full))
        await self._link.one(ServerCall(self._script("vouch"), self._keys.pair(platform), words))


def _was_done(answer: Exception) -> bool:
    """Say whether a call was refused because it had been done before."""
    return isinstance(answer, ServerRefused) and str(answer).startswith("GONE")
