"""Is this server fit to hold callbacks? What is wrong with it, why that matters, and what to set."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from relay.core.errors import StoreAway, StoreUnusable
from relay.store.redis.server.fields import pairs_of
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import Durable, ServerLink, ServerRefused

SCHEMA: Final = 1
_OLDEST: Final = (6, 2)
_FLAGS_FROM: Final = (7, 0)
_WAITAOF_FROM: Final = (7, 2)
_SCAN: Final = 1000


class ServerFault(NamedTuple):
    """One thing that is wrong: ``fatal`` means that callbacks could be lost, so the relay does not use the server."""

    fatal: bool
    text: str


class ServerFacts(NamedTuple):
    """What the relay must know of a server."""

    version: tuple[int, ...]
    flags: bool
    waitaof: bool
    faults: list[ServerFault]


async def examine(link: ServerLink, durable: Durable) -> ServerFacts:
    """Ask a server, or each primary of a cluster, for version and settings.

    Raises ``StoreAway`` and ``StoreUnusable`` (it lets nobody in).
    """
    oldest: tuple[int, ...] = ()
    found: list[ServerFault] = []
    for node in await link.each():
        info = await node.info("server", "memory", "persistence", "replication")
        if str(info.get("loading", "0")) == "1":  # it says then that its append-only file is off
            raise StoreAway("the server is still loading its data", sent=False)
        version = _version(info)
        oldest = min(oldest or version, version)
        faults = _faults(info, version, await _setting(node, "appendfsync"), durable)
        where = f"of the node {node.address}: " if link.cluster else ""
        found += (fault._replace(text=where + fault.text) for fault in faults)
    return ServerFacts(oldest, oldest >= _FLAGS_FROM, oldest >= _WAITAOF_FROM, found)


async def fit(link: ServerLink) -> ServerFacts:
    """See that a server is fit to hold callbacks, and how it can be waited for.

    Raises ``StoreAway`` while it cannot be reached, and ``StoreUnusable`` with all that is wrong with it.
    """
    facts = await examine(link, link.durable)
    fatal = [fault.text for fault in facts.faults if fault.fatal]
    if fatal:
        raise StoreUnusable(f"store.url: {'; '.join(fatal)}")
    link.durable = link.durable._replace(waitaof=facts.waitaof)
    return facts


def _faults(info: Mapping[str, Any], version: tuple[int, ...], fsync: str, durable: Durable) -> "list[ServerFault]":
    found: list[ServerFault] = []
    named = ".".join(map(str, version))
    if version < _OLDEST:
        found.append(ServerFault(True, f"the server is version {named}; 6.2 is the oldest that has all commands"))
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        found.append(
            ServerFault(
                True,
                f"its maxmemory-policy is {policy}: when memory is short it would delete callbacks; set "
                "maxmemory-policy noeviction",
            )
        )
    aof = str(info.get("aof_enabled", "0")) == "1"
    if not aof:
        fatal = durable.aof
        remedy = "set appendonly yes" + (", or store.durability.aof: false and name replicas" if fatal else "")
        found.append(
            ServerFault(fatal, f"its append-only file is off: a restart loses what was answered 202; {remedy}")
        )
    elif durable.aof and version < _WAITAOF_FROM and fsync != "always":
        found.append(
            ServerFault(
                True,
                f"version {named} has no WAITAOF, and appendfsync is {fsync or 'unknown'}: set appendfsync always",
            )
        )
    if durable.aof and aof and version < _WAITAOF_FROM:
        found.append(ServerFault(False, f"version {named} has no WAITAOF: appendfsync always and WAIT stand in for it"))
    found += _of_replicas(int(info.get("connected_slaves", 0)), durable.replicas)
    return found


def _of_replicas(there: int, waited_for: int) -> "list[ServerFault]":
    """Compare how many replicas there are with how many an accept and a claim wait for."""
    if there < waited_for:
        text = f"store.durability asks for {waited_for} replicas and it has {there}: posts are answered 503"
    elif there > waited_for:
        text = (
            f"it has {there} {'replica' if there == 1 else 'replicas'} and store.durability.replicas is {waited_for}: "
            "where one that was behind takes its place, callbacks are lost that were answered 202 (they are counted "
            "and named), what was delivered may go again, and windows may count as full; set it to the number of those "
            "that may take its place (replica-priority above 0)"
        )
    else:
        return []
    return [ServerFault(False, text)]


async def take_prefix(link: ServerLink, keys: KeyNames) -> None:
    """Check that the keys under the prefix are a relay's of this version, or none.

    Raises ``StoreUnusable`` for keys of somebody else and for a store of a newer version.
    """
    schema = keys.shared("schema")
    found = await link.do("GET", schema)
    if found is not None:
        if int(found) > SCHEMA:
            raise StoreUnusable(
                f"the store under {keys.prefix}: is of version {int(found)}, this relay knows {SCHEMA}; upgrade it"
            )
        return
    for node in await link.each():
        stranger = await _first_key(node, keys.prefix)
        if stranger is not None:
            raise StoreUnusable(
                f"the key {stranger!r} begins with {keys.prefix}: and is no relay's; "
                "set another store.prefix or database"
            )
    await link.do("SET", schema, SCHEMA, "NX")


async def _first_key(link: ServerLink, prefix: str) -> str | None:
    """Return a key under the prefix that is no host's; hosts may have met here before the first callback."""
    cursor: Any = "0"
    while True:
        cursor, found = await link.do("SCAN", cursor, "MATCH", f"{prefix}:*", "COUNT", _SCAN)
        for key in found:
            if not key.startswith(f"{prefix}:{{:".encode()):
                return str(key.decode(errors="replace"))
        if int(cursor) == 0:
            return None


async def _setting(link: ServerLink, name: str) -> str:
    """Return a setting; empty where the server does not tell."""
    try:
        found = await link.do("CONFIG", "GET", name)
    except ServerRefused:
        return ""
    values = {_text(key): _text(value) for key, value in pairs_of(found)}
    return values.get(name, "")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _version(info: Mapping[str, Any]) -> tuple[int, ...]:
    text = str(info.get("valkey_version") or info.get("redis_version") or "0")
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())
