"""Is a store on a server at rest? What speaks against copying it, and what to do."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from relay.core.errors import StoreUnusable
from relay.store.redis.server.fields import pairs_of
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink

_GONE_S: Final = 16.0  # a host that was not heard for so long has lost its leases
_UNSETTLED: Final = (
    ("HLEN", "stg", "posts that are on their way into it"),
    ("ZCARD", "rc", "receipts that are not queued yet"),
    ("HLEN", "si", "an answer that is not settled to its end"),
)


async def refuse_hosts(link: ServerLink, keys: KeyNames) -> None:
    """Raise ``StoreUnusable`` where a host runs on the store, or one that was heard here holds a spool."""
    seconds, micros = await link.do("TIME")
    now = float(seconds) + float(micros) / 1e6
    found = await link.do("HGETALL", keys.of(":hosts", "hosts"))
    for name, kept in pairs_of(found):
        _, heart, at = kept.decode().split("\n")
        if now - float(at) < _GONE_S:
            raise StoreUnusable(
                f"the host {name.decode()} runs on it, or ended less than {_GONE_S:g} s ago without saying so: "
                "stop all hosts first"
            )
        waiting = msgspec.json.decode(heart).get("spooled", 0)
        if waiting:
            raise StoreUnusable(
                f"the spool of the host {name.decode()} holds {waiting} callbacks: start it, see with `relay hosts` "
                "that nothing is spooled, and stop it"
            )


async def refuse_unsettled(link: ServerLink, keys: KeyNames, platforms: Sequence[str]) -> None:
    """Raise ``StoreUnusable`` where a host that was killed left something half done: its next start finishes it."""
    calls = [
        ServerCall(None, (), (command, keys.of(name, suffix)))
        for name in platforms
        for command, suffix, _ in _UNSETTLED
    ]
    answers: list[Any] = await link.run(calls) if calls else []
    for place, many in enumerate(answers):
        if isinstance(many, Exception):
            raise many
        if many:
            what = _UNSETTLED[place % len(_UNSETTLED)][2]
            name = platforms[place // len(_UNSETTLED)]
            raise StoreUnusable(f"it holds {what} ({name}): start a host on it, which finishes them, and stop it")
