"""The connection to the server: pipelines of scripts, never sent twice by the client, with counted durability."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import redis.asyncio as client
from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import TimeoutError as TookTooLong

from relay.config.reading.server_urls import ServerUrl
from relay.core.clock import elapsed_s
from relay.core.errors import Fenced, StoreAway, StoreFailed, StoreFull, StoreUnusable
from relay.store.redis.server.lineage import Lineage, goes_on, lineage_of
from relay.store.redis.server.scripts import Script

WITHIN_S: Final = 2.0
_CONNECT_S: Final = 0.5
_MOST: Final = 64  # calls at once; more wait for their turn
_LISTENING: Final = 4  # connections beside them: one listens, and is made again when it breaks
_AWAY: Final = (
    NotConnected,
    TookTooLong,
    ReadOnlyError,
    ClusterDownError,
    TryAgainError,
    OSError,
    asyncio.TimeoutError,
)
_AWAY_WORDS: Final = (
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "READONLY",
    "NOREPLICAS",
    "MISCONF",
    "UNKILLABLE",
    "BUSY ",
)


BROKEN: Final = (RedisError, OSError)


class ServerRefused(StoreFailed):
    """The server answered a call with an error; scripts begin theirs with a word of their own."""


class SlotMoved(ServerRefused):
    """Another node of the cluster has the slot; nothing was done."""


class AnotherServer(StoreAway):
    """Another server answers than the one a call is meant for; nothing was sent."""


class ServerCall(NamedTuple):
    """A script to run, or with ``script`` None the command that ``args`` are.

    ``server``: it is meant for the server with this run id alone; empty: for whichever answers.
    """

    script: Script | None
    keys: Sequence[str]
    args: Sequence[Any]
    server: str = ""


class Durable(NamedTuple):
    """What a change waits for: the server's own append-only file and so many replicas, so long."""

    aof: bool = True
    replicas: int = 0
    timeout_s: float = 0.5
    waitaof: bool = True  # the server has WAITAOF (7.2)


class ServerLink:
    """One server. Every call is one pipeline on one connection; a lost reply is never answered by sending again."""

    cluster = False

    def __init__(self, pool: client.ConnectionPool, durable: Durable) -> None:
        self._pool = pool
        self._client = client.Redis(connection_pool=pool)
        self.durable = durable
        self.answered_at = -math.inf  # when the server last answered well (``elapsed_s``)
        # Writes anew what another server may lack; it is told for which ones calls were meant.
        self.another_server: Callable[[Collection[str]], Awaitable[None]] = as_before
        self._lineage = Lineage()
        self._primary = ""  # the last one that was no replica
        self._failovers = 0
        self.replicas_seen = 0  # at most, of any primary that was met
        self._met: WeakKeyDictionary[Any, str] = WeakKeyDictionary()  # by connection: the run id of its server
        self._turns = asyncio.Semaphore(_MOST)
        self._loaded: tuple[str, set[Script]] = ("", set())  # by run id: see ``_loaded_at``
        pool.connection_kwargs["redis_connect_func"] = self._meet

    @classmethod
    def to(cls, server: ServerUrl, durable: Durable) -> "ServerLink":
        """Return a link to one server, or to the one that sentinels know; nothing is sent yet."""
        given: dict[str, Any] = {
            "username": server.user,
            "password": server.password,
            "db": server.database,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": None,  # each call has its own bound, see ``run``
            "socket_connect_timeout": _CONNECT_S,
            "protocol": 2,
        }
        if server.scheme == "redis+sentinel":
            asked = {"socket_timeout": _CONNECT_S, "socket_connect_timeout": _CONNECT_S}
            sentinel = Sentinel(list(server.hosts), sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
            pool = SentinelConnectionPool(server.name, sentinel, max_connections=_MOST + _LISTENING, **given)  # type: ignore[no-untyped-call]
            return cls(pool, durable)
        ((host, port),) = server.hosts
        kind: type[client.Connection] = SSLConnection if server.scheme == "rediss" else client.Connection
        return cls(
            client.ConnectionPool(kind, max_connections=_MOST + _LISTENING, host=host, port=port, **given), durable
        )

    @property
    def address(self) -> str:
        """The address of the primary that was last spoken to."""
        found = getattr(self._pool, "master_address", None)
        host, port = found or (self._pool.connection_kwargs.get("host"), self._pool.connection_kwargs.get("port"))
        return f"{host}:{port}"

    @property
    def primary_id(self) -> str:
        """The primary that was last spoken to: another one, which may know less, has another."""
        return f"{self.address} {self._failovers}"

    def may_lack(self, former: str, server: Lineage) -> bool:
        """Say whether a server may lack what the one of ``former`` (``Lineage.text``) had acknowledged.

        Where every replica was waited for that may have taken its place, it lacks nothing.
        """
        durable = self.durable
        waited_for_all = 0 < durable.replicas >= self.replicas_seen
        return not waited_for_all and not goes_on(former, server, aof=durable.aof)

    def lineage_at(self, _key: str) -> Lineage:
        """Return the server that was last met for a key."""
        return self._lineage

    async def _meet(self, connection: Any) -> None:
        """Ask, on each new connection, which server is at its other end."""
        await connection.on_connect_check_health(check_health=True)
        told: dict[str, Any] = {}
        for section in ("server", "replication"):
            await connection.send_command("INFO", section, check_health=False)
            told |= _info(await connection.read_response())
        met = lineage_of(told, self.address)
        self._met[connection] = met.run_id
        self._lineage = met
        if told.get("role") == "master":
            self._failovers += bool(self._primary) and not goes_on(self._primary, met, aof=self.durable.aof)
            self._primary = met.text
            self.replicas_seen = max(self.replicas_seen, int(told.get("connected_slaves", 0)))

    async def run(self, calls: Sequence[ServerCall], *, within_s: float = WITHIN_S, durable: bool = False) -> list[Any]:
        """Run ``calls`` in one pipeline and return their answers; the error of one call comes back in its place.

        With ``durable`` it returns when the server has written what they changed as ``Durable`` asks. Raises
        ``StoreAway`` when the server cannot be reached, is no primary or did not write it in time: the effect is
        unknown then. Calls that are meant for one server go to another only after ``another_server``.
        """
        try:
            return await self._once(calls, within_s, durable)
        except AnotherServer:
            await self.another_server({call.server for call in calls} - {self._lineage.run_id})
            now = self._lineage.run_id
            return await self._once(
                [call._replace(server=now) if call.server else call for call in calls], within_s, durable
            )

    async def _once(self, calls: Sequence[ServerCall], within_s: float, durable: bool) -> list[Any]:
        waits = self._waits() if durable else ()
        has_turn = False
        try:
            async with asyncio.timeout(within_s + (self.durable.timeout_s if durable else 0.0)):
                has_turn = await self._turns.acquire()
                answers = await self._pipeline(calls, waits)
                missing = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
                if missing:
                    await self._load_and_run(calls, missing, waits, answers)
        except _AWAY as error:
            if not has_turn:
                raise StoreAway("the store answers none of the calls before this one", sent=False) from error
            raise await self._lost(error) from error
        except RedisError as error:  # a refusal, or an answer that the client cannot read
            raise StoreAway(f"the store refused: {error}") from error
        finally:
            if has_turn:
                self._turns.release()
        for answer in answers:
            if _means_away(answer):
                raise await self._lost(answer)
        self.answered_at = elapsed_s()
        if durable:
            self._check(answers[len(calls) :])
        return [_mapped(answer) for answer in answers[: len(calls)]]

    async def _load_and_run(
        self, calls: Sequence[ServerCall], missing: Sequence[int], waits: Sequence[Sequence[Any]], answers: list[Any]
    ) -> None:
        """Run those calls again whose script the server forgot (SCRIPT FLUSH), and put their answers in place."""
        self._loaded = ("", set())  # so that it is given them with the calls
        try:
            again = await self._pipeline([calls[place] for place in missing], waits)
        except StoreAway as away:
            away.sent = True  # the others have run
            raise
        for place, answer in zip(missing, again[: len(missing)], strict=True):
            answers[place] = answer
        answers[len(calls) :] = again[len(missing) :]

    async def one(self, call: ServerCall, *, within_s: float = WITHIN_S, durable: bool = False) -> Any:
        """Run one call; raises its error."""
        answer = (await self.run((call,), within_s=within_s, durable=durable))[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def do(self, *command: Any) -> Any:
        """Run one plain command; raises its error."""
        return await self.one(ServerCall(None, (), command))

    async def _pipeline(self, calls: Sequence[ServerCall], waits: Sequence[Sequence[Any]]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipe:
            try:
                pipe.connection = connection = await self._connected()
            except AuthenticationError as error:
                raise StoreUnusable(f"store.url: the server lets nobody in without its password: {error}") from error
            except (*_AWAY, RedisError) as error:
                raise StoreAway(f"the store cannot be reached: {error}", sent=False) from error
            met = self._met[connection]
            if any(call.server and call.server != met for call in calls):
                raise AnotherServer("another server has taken the place of the one before", sent=False)
            loaded = self._loaded_at(met)
            fresh = {call.script for call in calls if call.script is not None} - loaded
            for script in fresh:  # before all calls: a call must not be overtaken by those behind it
                pipe.execute_command("SCRIPT LOAD", script.text)
            for called, keys, args, _ in calls:
                if called is None:
                    pipe.execute_command(*args)
                else:
                    pipe.execute_command("EVALSHA", called.sha, len(keys), *keys, *args)
            for wait in waits:
                pipe.execute_command(*wait)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
        if met != self._lineage.run_id:
            raise StoreAway("the server that answered was replaced meanwhile")
        answered = zip(fresh, answers, strict=False)
        loaded.update(script for script, answer in answered if not isinstance(answer, Exception))
        return answers[len(fresh) :]

    def _loaded_at(self, run_id: str) -> set[Script]:
        """Return the scripts that the server with this run id has been given over this link."""
        if self._loaded[0] != run_id:
            self._loaded = (run_id, set())
        return self._loaded[1]

    async def _connected(self) -> Any:
        """Return a connection to the server that was met last: one from before may lead to a demoted primary."""
        while True:
            connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            if self._met[connection] == self._lineage.run_id:
                return connection
            await connection.disconnect()
            await self._pool.release(connection)

    def _waits(self) -> Sequence[Sequence[Any]]:
        durable = self.durable
        milliseconds = max(1, int(durable.timeout_s * 1000))
        if durable.waitaof and (durable.aof or durable.replicas):
            return (("WAITAOF", int(durable.aof), durable.replicas, milliseconds),)
        return (("WAIT", durable.replicas, milliseconds),) if durable.replicas else ()

    def _check(self, answers: Sequence[Any]) -> None:
        """Compare the answered counts: a short one is no error to the client library."""
        for answer in answers:
            if isinstance(answer, Exception):
                raise StoreAway(f"the store cannot say that it has written it: {answer}")
            local, replicas = answer if isinstance(answer, list) else (1, answer)
            if local < self.durable.aof or replicas < self.durable.replicas:
                raise StoreAway(
                    f"within {self.durable.timeout_s:g} s the store had it on {local} disk of its own and {replicas} "
                    f"replicas; store.durability asks for {int(self.durable.aof)} and {self.durable.replicas}"
                )

    async def _lost(self, error: Any) -> StoreAway:
        """Drop every connection: after a failover those left would still lead to the old primary."""
        self.answered_at = -math.inf
        await self._client.connection_pool.disconnect(inuse_connections=False)
        return StoreAway(f"the store cannot be reached: {error or type(error).__name__}")

    async def each(self) -> "Sequence[ServerLink]":
        """Return a link to each server that holds keys: this one; of a cluster its primaries."""
        return [self]

    async def info(self, *sections: str) -> Mapping[str, Any]:
        """Return what the server says of itself."""
        found: dict[str, Any] = {}
        for section in sections:
            answer = await self.do("INFO", section)
            found.update(answer if isinstance(answer, dict) else _info(answer))
        return found

    def listening(self) -> client.client.PubSub:
        """Return what listens on channels, over a connection of its own."""
        return self._client.pubsub(ignore_subscribe_messages=True)

    async def publish(self, channel: str, text: str) -> None:
        """Tell all who listen on a channel."""
        await self.do("PUBLISH", channel, text)

    async def close(self) -> None:
        """Close every connection, to sentinels too."""
        sentinels = self._pool.sentinel_manager.sentinels if isinstance(self._pool, SentinelConnectionPool) else ()
        for each in (self._client, *sentinels):
            await each.connection_pool.disconnect()
        await asyncio.sleep(0)  # lets those go that a cancelled call gave up


async def as_before(_meant: Collection[str]) -> None:
    """Nothing is written anew."""


def _info(text: bytes) -> dict[str, Any]:
    lines = (line.partition(":") for line in text.decode(errors="replace").splitlines() if ":" in line)
    return {name: value for name, _, value in lines}


def _means_away(answer: Any) -> bool:
    if not isinstance(answer, Exception):
        return False
    return isinstance(answer, _AWAY) or str(answer).startswith(_AWAY_WORDS)


def _mapped(answer: Any) -> Any:
    """Return an answer with the server's errors as ours."""
    if not isinstance(answer, RedisError):
        return answer
    text = str(answer)
    if text.startswith("FENCED"):
        return Fenced("another host owns this platform now; nothing was changed")
    if isinstance(answer, AskError):  # MOVED is one too
        return SlotMoved(text)
    if isinstance(answer, OutOfMemoryError) or text.startswith("OOM") or "OOM command" in text:
        return StoreFull("the server is at its maxmemory; raise it, shorten store.keep, or drop dead letters")
    return ServerRefused(text)
