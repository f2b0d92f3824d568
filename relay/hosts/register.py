"""Carries a beat to the server: one script for the hosts and the leases, or one per lease on a cluster.

What changes owners waits until it is as durable as an accept (``ServerLink.run``). A plain renewal waits only where
there are replicas: an old primary that was cut off must not acknowledge it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

import msgspec

from relay.core.clock import elapsed_s
from relay.core.errors import StoreError
from relay.hosts.rules.beat import Beat, Heard, Heart, Listed, Wanted, Wish
from relay.hosts.rules.lease import Lease
from relay.hosts.rules.topology import Topology
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.server.scripts import Script, script_of

BEAT_WITHIN_S: Final = 2.0  # four tries fit between a renewal and the end of the claims
_SHARED: Final = ":hosts"  # no platform's name begins with a colon
_CHANGES_OWNERS: Final = frozenset((Wanted.TAKE, Wanted.TAKE_FREE, Wanted.RELEASE))


class LeaseRegister:
    """The leases of one store, for one host and process."""

    def __init__(
        self,
        link: ServerLink,
        keys: KeyNames,
        *,
        host: str,
        process: str,
        flags: bool = True,
        round_trip: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """``flags``: the server knows those of scripts (7.0). ``round_trip`` is told how long each beat took."""
        self._link = link
        self._keys = keys
        self._host = host
        self._process = process
        self._flags = flags
        self._round_trip = round_trip

    async def say(self, beat: Beat) -> Heard:
        """Carry ``beat``. Raises ``StoreError`` when what it says to all hosts went unanswered."""
        calls = self._calls(beat)
        changes = any(wish.wanted in _CHANGES_OWNERS for wish in beat.wishes)
        durable = changes or beat.publish is not None or self._link.durable.replicas > 0
        began_s = elapsed_s()
        answers = await self._link.run(calls, within_s=BEAT_WITHIN_S, durable=durable)
        self._round_trip(elapsed_s() - began_s)
        if isinstance(answers[0], Exception):
            raise answers[0] if isinstance(answers[0], StoreError) else StoreError(f"the beat failed: {answers[0]}")
        if self._link.cluster:
            shared, leases = answers[0], [None if isinstance(each, Exception) else each[0] for each in answers[1:]]
        else:
            shared, leases = answers[0]
        if changes:  # whoever waits for a lease looks at once, and so does whoever shows who has it
            await self._link.publish(self._keys.leases, self._host)
        *topology, _server_s, listed = shared
        return Heard(
            primary=self._link.primary_id,
            topology=Topology(int(topology[0]), topology[1].decode(), topology[2].decode()),
            hosts=_listed(listed),
            leases={
                wish.platform: _lease(fields)
                for wish, fields in zip(beat.wishes, leases, strict=True)
                if fields is not None
            },
        )

    def _calls(self, beat: Beat) -> list[ServerCall]:
        shared_keys = [self._keys.of(_SHARED, "hosts"), self._keys.of(_SHARED, "topology")]
        saying = "leave" if beat.leaves else "look" if beat.heart is None else "beat"
        heart = b"" if beat.heart is None else msgspec.json.encode(beat.heart)
        generation, digest = ("", "") if beat.publish is None else (beat.publish.generation, beat.publish.digest)
        shared = [self._host, self._process, beat.replaces, saying, heart, generation, digest]
        who = (self._host, self._process)
        if self._link.cluster:
            single = (
                ServerCall(self._script("leases"), [self._keys.of(wish.platform, "lease")], [*who, *_words(wish)])
                for wish in beat.wishes
            )
            return [ServerCall(self._script("hosts"), shared_keys, shared), *single]
        keys = [*shared_keys, *(self._keys.of(wish.platform, "lease") for wish in beat.wishes)]
        words = [word for wish in beat.wishes for word in _words(wish)]
        return [ServerCall(self._script("beat"), keys, [*shared, *who, *words])]

    def _script(self, name: str) -> Script:
        return lease_script(name, flags=self._flags)


@cache
def lease_script(name: str, *, flags: bool = True) -> Script:
    """Return the script called ``name``; it also runs when the server has no room left."""
    folder = files(__package__) / "lua"
    text = (folder / f"{name}.lua").read_text(encoding="utf-8")
    if name == "beat":
        parts = ((part, (folder / f"{part}.lua").read_text(encoding="utf-8")) for part in ("hosts", "leases"))
        text = "\n".join([*(f"local function {part}(KEYS, ARGV)\n{body}\nend" for part, body in parts), text])
    return script_of(("#!lua flags=allow-oom\n" if flags else "") + text)


def _words(wish: Wish) -> Sequence[Any]:
    expected = wish.expected
    return wish.wanted.value, wish.identity, expected.epoch, expected.identity, expected.renewed, wish.successor


def _lease(fields: Sequence[bytes]) -> Lease:
    epoch, identity, renewed, host, process, successor = (field.decode() for field in fields)
    return Lease(int(epoch), identity, int(renewed), host, process, successor)


def _listed(hosts: Sequence[tuple[bytes, bytes]]) -> Mapping[str, Listed]:
    hearts = ((msgspec.json.decode(heart, type=Heart), float(age_s)) for heart, age_s in hosts)
    return {heart.name: Listed(heart, age_s) for heart, age_s in hearts}
