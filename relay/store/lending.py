"""What a store promises to those who take slots of the relay's limits for requests of their own."""

from collections.abc import Sequence
from typing import Protocol

from relay.core.lending import LentSlots, LimitName, SlotWish
from relay.core.model import WaitUntil


class Lending(Protocol):
    """Hands slots out and takes them back. All methods may raise ``StoreFailed``."""

    async def lend(self, wish: SlotWish) -> LentSlots | WaitUntil:
        """Hold so many slots and record them, all or none, in one commit; or say until when to wait.

        The reason ``unknown`` says that there are no such limits, ``never`` that they are smaller than what is wanted.
        """
        ...

    async def give_back(self, of: LimitName, ids: Sequence[str], *, unused: bool) -> list[LimitName]:
        """Let the slots count from now, or with ``unused`` no more; return whose they were, with their groups.

        What is no slot of this platform or quota, or was given back before, is passed over.
        """
        ...

    async def note_sent(self, of: LimitName, count: int) -> bool:
        """Count so many requests that were sent without slots; say whether there are such limits."""
        ...
