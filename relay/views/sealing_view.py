"""What the store is sealed with, and how far that has come."""

from typing import Annotated

from msgspec import Struct

from relay.views.moments import told


class MasterKeyUse(Struct, frozen=True, kw_only=True):
    """A master key that the store needs or the configuration gives."""

    id: Annotated[str, told("the first 12 hex digits of its hash")]
    in_force: Annotated[bool, told("it wraps new data keys: privacy.encrypt.key")]
    data_keys: Annotated[int, told("data keys that it wraps; 0: it may be taken out of the configuration")]


class KeysView(Struct, frozen=True, kw_only=True):
    """The keys of the store."""

    state: Annotated[str, told("off, sealing (what was there before is being sealed) or sealed")]
    keys: Annotated[list[MasterKeyUse], told("master keys, that in force first")]
    data_keys: Annotated[int, told("one per platform and day at least, and the store's own")]
    to_seal: Annotated[int, told("callbacks still to be sealed")]
    sealed: Annotated[int, told("of those that lay there in plain, callbacks that are sealed by now")]


KEYS_OFF = KeysView(state="off", keys=[], data_keys=0, to_seal=0, sealed=0)


class KeysRotated(Struct, frozen=True, kw_only=True):
    """Answer to a rotation."""

    key: Annotated[str, told("id of the key in force")]
    data_keys: Annotated[int, told("data keys that were wrapped anew")]
