"""Seals values with data keys: AES-256-GCM, each bound to its row, its column and its data key.

A data key is for one platform and one day, and at most 2^31 values; it is kept wrapped by a master key. So a sealed
value reads: number of the data key (4 bytes), nonce (12), ciphertext and tag. What binds it (the additional data) are
two 64-bit numbers: data key and column, then the row. A value that is put in another row or column, or that names
another data key, does not open.

Values are sealed by the hundred, in one go: a call each for nonces and bound data would cost more than the cipher.
"""

import os
from array import array
from collections.abc import Iterable, Sequence
from enum import IntEnum
from itertools import groupby
from struct import Struct
from typing import Final, NamedTuple

from relay.sealing.master_keys import KEY_BYTES, NONCE_BYTES, DoesNotOpen, MasterKey, MasterKeys

DAY_S: Final = 86400
_LATE_S: Final = 600.0  # so long after it was numbered and sealed a callback may still be accepted
NOBODY: Final = 0
"""The platform of the store's own data key, which has no day and is never forgotten."""

_HEAD_BYTES: Final = 4
_FROM: Final = _HEAD_BYTES + NONCE_BYTES
_MOST_SEALED: Final = 1 << 31  # with random nonces a key is good for 2^32 values (NIST SP 800-38D section 8.3)
_LENGTH: Final = Struct("<I")
NO_KEY: Final = _LENGTH.pack(0xFFFFFFFF)
"""Ends a framed payload without an ordering key."""
key_length: Final = _LENGTH.pack
"""Ends a framed payload: the length of its ordering key, which stands before it."""


def _head(value: bytes) -> bytes:
    return value[:_HEAD_BYTES]


class Column(IntEnum):
    """What a sealed value is. The numbers are in the files: they never change."""

    BODY = 1  # a payload with its ordering key
    KEY = 2  # an ordering key alone: its payload was deleted
    MESSAGE = 3  # a platform's own words about a callback
    EXCERPT = 4  # the start of an answer
    LAST_ERROR = 5
    FILTER = 6  # of an operation
    SECRET = 7  # what hashes are keyed with
    IDEMPOTENCY_KEY = 8  # kept for receipts
    REFERENCE = 9  # the order center's own text about a callback


class WrappedKey(NamedTuple):
    """A data key as it is kept."""

    id: int
    platform: int
    day: int  # since 1970-01-01, on the relay clock
    master: str  # id of the master key
    wrapped: bytes

    @property
    def about(self) -> bytes:
        """What the wrapped key is bound to."""
        return array("q", (self.id, self.platform, self.day)).tobytes()


class _DataKey:
    __slots__ = ("decrypt", "encrypt", "head", "id", "kept", "left", "plain", "refusals")

    def __init__(self, kept: WrappedKey, plain: bytes) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.refusals = (InvalidTag, ValueError)  # ValueError: the value was cut short

        gcm = AESGCM(plain)
        self.kept = kept
        self.plain = plain
        self.id = kept.id
        self.head = kept.id.to_bytes(_HEAD_BYTES, "little")
        self.encrypt, self.decrypt = gcm.encrypt, gcm.decrypt
        self.left = _MOST_SEALED

    def about(self, column: Column, rows: Iterable[int]) -> list[bytes]:
        """Return what each row's value is bound to."""
        numbers = array("q", rows)
        both = array("q", (self.id << 8 | column,)) * (2 * len(numbers))
        both[1::2] = numbers
        bound = both.tobytes()
        return [bound[at : at + 16] for at in range(0, len(bound), 16)]

    def open(self, values: Sequence[bytes], about: Sequence[bytes]) -> list[bytes | None]:
        """Open values in one go; None for each that does not open."""
        nonces = [value[_HEAD_BYTES:_FROM] for value in values]
        texts = [value[_FROM:] for value in values]
        try:
            return list(map(self.decrypt, nonces, texts, about))
        except self.refusals:
            return [self._one(*each) for each in zip(nonces, texts, about, strict=True)]

    def _one(self, nonce: bytes, text: bytes, about: bytes) -> bytes | None:
        try:
            return self.decrypt(nonce, text, about)
        except self.refusals:
            return None


def frame(payload: bytes, key: str | None) -> bytes:
    """Return a payload and its ordering key as one text to seal."""
    if key is None:
        return payload + NO_KEY
    encoded = key.encode()
    return payload + encoded + key_length(len(encoded))


def unframed(text: bytes) -> tuple[bytes, str | None]:
    """Return the payload and the ordering key that ``frame`` put together."""
    end = len(text) - _LENGTH.size
    if text.endswith(NO_KEY):
        return text[:end], None
    (length,) = _LENGTH.unpack_from(text, end)
    return text[: end - length], text[end - length : end].decode()


def days_over(until: float, *, asked_at: float) -> int:
    """Return the first day whose data key stays, when at ``asked_at`` everything before ``until`` is to be forgotten.

    A day that is not over yet keeps its data key, whatever ``until`` says: callbacks that come after the wish are
    sealed with it. For example "before 2027-01-01", said on 5 August 2026, ends with the data keys of 4 August.
    """
    return int(min(until, asked_at - _LATE_S) // DAY_S)


class Codec:
    """Seals and opens with the data keys of one store. ``fresh`` are those that the store has still to keep.

    One thread seals; any may open.
    """

    def __init__(self, masters: MasterKeys, kept: Iterable[WrappedKey] = ()) -> None:
        """Take over the kept data keys. Raises ``DoesNotOpen`` where a master key is missing or wrong."""
        self.masters = masters
        self.fresh: list[WrappedKey] = []
        self._keys: dict[int, _DataKey] = {}
        self._newest: dict[tuple[int, int], _DataKey] = {}
        self._last = 0  # number of a data key
        self.take_all(kept)

    def take_all(self, kept: Iterable[WrappedKey]) -> None:
        """Take over kept data keys."""
        for one in kept:
            self.take(one)

    def take(self, one: WrappedKey) -> None:
        """Take over a kept data key."""
        master = self.masters.get(one.master)
        if master is None:
            raise DoesNotOpen(f"the key {one.master} is missing")
        self._add(_DataKey(one, master.unwrap(one.wrapped, one.about)))

    def _add(self, key: _DataKey) -> None:
        self._last = max(self._last, key.id)
        self._keys[key.id] = key
        self._newest[key.kept.platform, key.kept.day] = key

    @property
    def kept(self) -> list[WrappedKey]:
        """All data keys, as they are kept."""
        return [key.kept for key in self._keys.values()]

    def drop(self, numbers: Iterable[int]) -> list[WrappedKey]:
        """Forget data keys: what they sealed opens no more. Return those that were here; ``take_all`` undoes it."""
        gone = []
        for number in numbers:
            key = self._keys.pop(number, None)
            if key is not None:
                gone.append(key.kept)
                if self._newest.get((key.kept.platform, key.kept.day)) is key:
                    del self._newest[key.kept.platform, key.kept.day]
        return gone

    def change(self, masters: MasterKeys) -> None:
        """Open and wrap with other master keys from now on. Raises ``DoesNotOpen`` if one in use is not among them."""
        for key in self._keys.values():
            if masters.get(key.kept.master) is None:
                raise DoesNotOpen(f"the key {key.kept.master} is missing")
        self.masters = masters

    def change_back(self, masters: MasterKeys) -> None:
        """Undo ``change``. Data keys made since are dropped: nothing that they sealed was kept."""
        self.masters = masters
        made = [key.id for key in self._keys.values() if masters.get(key.kept.master) is None]
        self.drop(made)
        self.fresh = [one for one in self.fresh if one.id not in made]

    def wrapped_anew(self, current: MasterKey) -> list[WrappedKey]:
        """Wrap with ``current`` what another one wraps; return these data keys. ``rewrapped`` notes them."""
        return [
            key.kept._replace(master=current.id, wrapped=current.wrap(key.plain, key.kept.about))
            for key in self._keys.values()
            if key.kept.master != current.id
        ]

    def rewrapped(self, anew: Iterable[WrappedKey]) -> list[WrappedKey]:
        """Note how data keys are kept from now on, also those still to be kept; return how they were."""
        before = []
        for one in anew:
            before.append(self._keys[one.id].kept)
            self._keys[one.id].kept = one
        self.fresh = [self._keys[one.id].kept for one in self.fresh]
        return before

    def _key_for(self, platform: int, at: float, count: int) -> _DataKey:
        day = 0 if platform == NOBODY else int(at // DAY_S)
        key = self._newest.get((platform, day))
        if key is None or key.left < count:
            made = self.make(self._last + 1, platform, day)
            self.take(made)
            self.fresh.append(made)
            key = self._keys[made.id]
        key.left -= count
        return key

    def make(self, number: int, platform: int, day: int) -> WrappedKey:
        """Return a new data key; ``take`` puts it in use."""
        master = self.masters.current
        made = WrappedKey(number, platform, day, master.id, b"")
        return made._replace(wrapped=master.wrap(os.urandom(KEY_BYTES), made.about))

    def lacks(self, platform: int, at: float, count: int) -> bool:
        """Say whether a new data key is needed to seal so many values of a platform with that of the time ``at``."""
        key = self._newest.get((platform, 0 if platform == NOBODY else int(at // DAY_S)))
        return key is None or key.left < count

    def knows(self, sealed: Iterable[bytes]) -> bool:
        """Say whether the data keys that these values name are here."""
        return all(int.from_bytes(head, "little") in self._keys for head in {_head(value) for value in sealed})

    def seal_rows(
        self, column: Column, platform: int, at: float, rows: Sequence[int], texts: Sequence[bytes]
    ) -> list[bytes]:
        """Seal one text for each of ``rows`` of a platform, with its data key of the time ``at``."""
        count = len(texts)
        key = self._key_for(platform, at, count)
        random = os.urandom(NONCE_BYTES * count)
        nonces = [random[at : at + NONCE_BYTES] for at in range(0, len(random), NONCE_BYTES)]
        head = key.head
        sealed = map(key.encrypt, nonces, texts, key.about(column, rows))
        return [head + nonce + text for nonce, text in zip(nonces, sealed, strict=True)]

    def seal(self, column: Column, platform: int, at: float, row: int, text: bytes) -> bytes:
        """Seal one text."""
        return self.seal_rows(column, platform, at, (row,), (text,))[0]

    def open_rows(
        self, column: Column, platform: int, rows: Sequence[int], sealed: Sequence[bytes]
    ) -> list[bytes | None]:
        """Open the values of a platform's rows; None stands for each that does not open."""
        opened: list[bytes | None] = []
        at = 0
        for head, run in groupby(sealed, key=_head):
            values = list(run)
            key = self._keys.get(int.from_bytes(head, "little"))
            if key is None or key.kept.platform != platform:
                opened += [None] * len(values)
            else:
                opened += key.open(values, key.about(column, rows[at : at + len(values)]))
            at += len(values)
        return opened

    def open(self, column: Column, platform: int, row: int, sealed: bytes) -> bytes:
        """Open one value. Raises ``DoesNotOpen``."""
        (text,) = self.open_rows(column, platform, (row,), (sealed,))
        if text is None:
            raise DoesNotOpen("sealed: does not open")
        return text
