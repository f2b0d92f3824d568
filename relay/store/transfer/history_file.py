"""What a store on a server needs of the file in which a host keeps final callbacks that lay on the server before.

A row is written there before it is deleted on the server, so a crash between the two leaves it in both: the server's
counts. Each host has a file of its own, with what it has moved as the owner of a platform.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from relay.core.model import Filter
from relay.sealing.master_keys import KeySource
from relay.store.transfer.hashes import HashWay
from relay.store.transfer.records import AttemptRecord, CallbackRecord
from relay.views.callback_view import CallbackView, ListedCallback
from relay.views.queue import HistorySize


class FinalRows(NamedTuple):
    """Final callbacks of one platform, and the attempts that they show."""

    platform: str
    callbacks: Sequence[CallbackRecord]
    attempts: Sequence[AttemptRecord]


class Given(NamedTuple):
    """A callback that is given back, with the attempts that it shows."""

    platform: str
    callback: CallbackRecord
    attempts: Sequence[AttemptRecord]
    overtaken: bool  # a newer callback of its key was delivered, as far as the file knows
    sure: bool  # this host deleted it on the server when it had copied it: nothing can have changed it since


class HistoryFile(Protocol):
    """The history file of one host. All methods may raise ``StoreFailed``."""

    @property
    def host(self) -> str:
        """The host that it belongs to."""
        ...

    @property
    def held(self) -> HistorySize:
        """How much it holds, as of its last step."""
        ...

    @property
    def forgotten_to(self) -> int:
        """What operations of the store up to this number forget is forgotten here; 0: none was looked at."""
        ...

    async def belong_to(self, way: HashWay, *, numbered: bool) -> None:
        """Find ordering keys by the hashes of the store on the server, which are made in this way.

        ``numbered``: they come as numbers. Raises ``StoreUnusable`` for a file that holds rows of another store.
        """
        ...

    async def take(self, moved: Sequence[FinalRows]) -> None:
        """Keep final callbacks with their attempts, durably and all at once; one that is there is written anew.

        Until ``confirm`` it is not sure that they are the last word: a crash, or another owner, may come between.
        """
        ...

    @property
    def unsure(self) -> frozenset[str]:
        """Those of which it is not known whether they were deleted on the server as they were copied."""
        ...

    async def confirm(self, gone: Collection[str], stays: Collection[str]) -> None:
        """Keep that ``gone`` were deleted on the server as they are here, and delete here what ``stays`` there."""
        ...

    async def callback(self, callback_id: str, *, payload: bool = False) -> CallbackView | None:
        """Return one callback, or None."""
        ...

    async def callbacks(
        self, wanted: Filter, *, cursor: str | None, limit: int
    ) -> tuple[list[ListedCallback], str | None]:
        """Return one page, newest first, and the cursor of the next page or None."""
        ...

    async def batch_members(self, batch_id: str, *, limit: int) -> list[str]:
        """Return the ids of callbacks that a batch carried."""
        ...

    async def given(self, ids: Sequence[str]) -> list[Given]:
        """Return those of these callbacks that lie here, for the server; they stay here too."""
        ...

    async def step(self, keep_s: float) -> bool:
        """Delete one step of what ended longer ago than ``keep_s``; return whether there may be more."""
        ...

    async def forget(self, wanted: Filter, hashes: Mapping[str, str]) -> int:
        """Destroy what callbacks hold of a person, as an operation of the store has; return of how many.

        ``hashes``: what stands for the ordering key that it means, by platform; ``wanted`` then names no key.
        """
        ...

    async def looked_at(self, number: int) -> None:
        """Keep that what operations of the store up to ``number`` forget is forgotten here."""
        ...

    async def use(self, source: KeySource) -> None:
        """Take over the keys of another configuration, and wrap the data keys with the one in force."""
        ...

    async def rotate(self) -> None:
        """Wrap the data keys anew; where a service keeps the key, with a new one."""
        ...

    async def close(self) -> None:
        """Close the file."""
        ...
