"""Counts what a store on a server holds of each platform: one side of the comparison that ends a copy."""

from collections.abc import Sequence
from typing import Any, Final

from relay.core.errors import StoreFailed
from relay.store.redis.server.fields import TOTALS
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.transfer.records import Tally

_WORDS: Final = (*TOTALS, "bytes")
_COUNTED: Final = (
    ("ZCARD", "x"),
    ("ZCARD", "hd"),
    ("HLEN", "r"),
    ("HLEN", "b"),
    ("HLEN", "dd"),
    ("HLEN", "at"),
    ("ZCOUNT", "au", "+inf", "+inf"),
    ("HLEN", "fz"),
    ("HLEN", "kp"),
)


async def tally_of(link: ServerLink, keys: KeyNames, platforms: Sequence[str]) -> dict[str, Tally]:
    """Return what each platform that has anything has."""
    found: dict[str, Tally] = {}
    for name in platforms:
        commands: list[tuple[Any, ...]] = [("HMGET", keys.of(name, "m"), *_WORDS)]
        commands += [(command, keys.of(name, suffix), *bounds) for command, suffix, *bounds in _COUNTED]
        answers = await link.run([ServerCall(None, (), command) for command in commands])
        for answer in answers:
            if isinstance(answer, Exception):
                raise StoreFailed(f"the store cannot be counted: {answer}")
        totals, pending, held, rows, payloads, idempotency, attempts, under_way, frozen, keys_held = answers
        accepted, delivered, dead, expired, superseded, size = (int(each or 0) for each in totals)
        tally = Tally(
            accepted=accepted,
            pending=pending,
            held=held,
            delivered=delivered,
            dead=dead,
            expired=expired,
            superseded=superseded,
            rows=rows,
            payloads=payloads,
            bytes=size,
            keys=idempotency,
            attempts=attempts,
            under_way=under_way,
            frozen=frozen,
            keys_held=keys_held,
        )
        if any(answers[1:]) or any(totals):
            found[name] = tally
    return found
