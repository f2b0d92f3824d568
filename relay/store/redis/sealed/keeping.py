"""The keys of a shared store: told of, rotated, destroyed with the days that they sealed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from relay.core.clock import Clock
from relay.core.errors import NotSealed, StoreUnusable
from relay.core.model import Filter
from relay.core.raw import Record
from relay.sealing.codec import DAY_S, NOBODY, WrappedKey, days_over
from relay.sealing.master_keys import KeySource
from relay.store.redis.sealed.data_keys import SharedDataKeys
from relay.store.redis.server.keys import KeyNames
from relay.store.redis.server.link import ServerCall, ServerLink
from relay.store.redis.write.trail import RedisTrail
from relay.store.unsealed import plain_mark
from relay.views.sealing_view import KEYS_OFF, KeysRotated, KeysView, MasterKeyUse

_EVERY_S: Final = 3600.0


class RedisSealing:
    """Implements ``relay.store.sealing.Sealing``. ``keys_changed`` is told of other keys, ``rotated`` of a rotation."""

    def __init__(
        self, data_keys: SharedDataKeys, link: ServerLink, keys: KeyNames, trail: RedisTrail, clock: Clock
    ) -> None:
        self.keys_changed: Callable[[KeySource], Awaitable[None]] = _nobody
        self.rotated: Callable[[], Awaitable[None]] = _nothing_else
        self._data_keys = data_keys
        self._link = link
        self._keys = keys
        self._trail = trail
        self._clock = clock
        self._looked_at = 0.0
        self._changing = asyncio.Lock()  # from what is kept of the keys to what is written of them

    async def status(self) -> KeysView:
        """Return which keys there are; nothing lies there in plain."""
        codec = self._data_keys.codec
        if codec is None:
            return KEYS_OFF
        used = await self._data_keys.uses()
        given = [key for key in codec.masters.ids if key in used or not self._renews or key == codec.masters.current.id]
        ids = [*given, *(key for key in used if key not in given)]
        return KeysView(
            state="sealed",
            keys=[MasterKeyUse(id=key, in_force=key in given[:1], data_keys=used[key]) for key in ids],
            data_keys=used.total(),
            to_seal=0,
            sealed=0,
        )

    @property
    def _renews(self) -> bool:
        return self._data_keys.source is not None and self._data_keys.source.renews

    def mark(self, key: str) -> str:
        """Return what stands for an ordering key in records."""
        return plain_mark(key) if self._data_keys.codec is None else self._keys.mark(key)

    async def step(self) -> bool:
        """Return that nothing is to do: everything is sealed before it is accepted."""
        return False

    async def use(self, source: KeySource | None) -> None:
        """Take over the keys of another configuration."""
        async with self._changing:
            await self._use(source)

    async def _use(self, source: KeySource | None) -> None:
        codec = self._data_keys.codec
        if codec is None:
            if source is not None:
                raise StoreUnusable(
                    "a shared store is sealed from its first callback on: restart all hosts with privacy.encrypt and "
                    "another store.prefix"
                )
            return
        if source is None:
            needed = codec.masters.current.id
            raise StoreUnusable(
                f"sealing of a shared store is not switched off: privacy.encrypt.key {needed} is needed"
            )
        masters = await self._data_keys.masters_of(source, used=await self._data_keys.uses())
        await self._data_keys.refresh(codec)  # another host may have rotated
        codec.change(masters)
        await self._data_keys.refresh(codec)
        self._data_keys.source = source
        await self.keys_changed(source)

    async def rotate(self, *, deed: Record | None = None) -> KeysRotated:
        """Wrap all data keys with the key in force; the other hosts must have it by then."""
        async with self._changing:
            return await self._rotate(deed)

    async def _rotate(self, deed: Record | None) -> KeysRotated:
        codec, source = self._data_keys.codec, self._data_keys.source
        if codec is None or source is None:
            raise NotSealed("the store is not sealed: there is no privacy.encrypt.key")
        await self._data_keys.refresh(codec)
        if source.renews:
            await self._data_keys.renew_master(codec)
        masters = codec.masters
        anew = codec.wrapped_anew(masters.current)
        await self._trail.append(deed)
        await self._data_keys.keep_anew(anew)
        codec.rewrapped(anew)
        await self.rotated()
        return KeysRotated(key=masters.current.id, data_keys=len(anew))

    async def forget_days(self, wanted: Filter, number: int | None, *, asked_at: float) -> None:
        """Destroy the data keys of days that an operation meant as a whole; ``number``: those of one platform."""
        codec = self._data_keys.codec
        whole_days = Filter(platform=wanted.platform, until=wanted.until) == wanted
        if codec is None or wanted.until is None or not whole_days:
            return
        day = days_over(wanted.until, asked_at=asked_at)
        await self._drop(lambda key: key.day < day and number in (None, key.platform))

    async def drop_unused(self, platforms: Iterable[tuple[str, int]]) -> None:
        """Destroy data keys of days of which nothing is kept at these platforms any more; once in a while.

        A day more stays, for rows near midnight, and for what is numbered and not accepted yet.
        """
        now = self._clock.now()
        if self._data_keys.codec is None or now < self._looked_at + _EVERY_S:
            return
        self._looked_at = now
        names = list(platforms)
        calls = [("ZRANGE", self._keys.of(name, kept), 0, 0) for name, _ in names for kept in ("all", "au")]
        found = await self._link.run([ServerCall(None, (), call) for call in calls]) if calls else []
        first_days: dict[int, int] = {}
        for place, (_, number) in enumerate(names):
            oldest = [int(seqs[0]) for seqs in found[2 * place : 2 * place + 2] if isinstance(seqs, list) and seqs]
            first_days[number] = int(min((*oldest, now * 1e6)) / 1e6 // DAY_S) - 1
        await self._drop(lambda key: key.day < first_days.get(key.platform, key.day))

    async def _drop(self, meant: Callable[[WrappedKey], bool]) -> None:
        kept = await self._data_keys.kept()
        await self._data_keys.forget([key.id for key in kept if key.platform != NOBODY and meant(key)])


async def _nobody(_source: KeySource) -> None:
    """Tell nobody of other keys."""


async def _nothing_else() -> None:
    """Wrap nothing else anew."""
