"""What works inside the store's transactions, put together: each part on those it uses."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from relay.core.clock import Clock, RelayClock, wall_s, wall_shift_s
from relay.core.model import PlatformRules, StoreRules
from relay.store.slots import Slots
from relay.store.sqlite.cancelling import Cancels
from relay.store.sqlite.file.boot import StoreIdentity
from relay.store.sqlite.file.names import Names
from relay.store.sqlite.file.space import Space
from relay.store.sqlite.keeping.duties import Duties
from relay.store.sqlite.keeping.seal_rows import SealsRows
from relay.store.sqlite.write.accept import PostWriter
from relay.store.sqlite.write.apart.forget import Forgets
from relay.store.sqlite.write.claim import Claims
from relay.store.sqlite.write.expiry import Expiring
from relay.store.sqlite.write.matches import Matches
from relay.store.sqlite.write.operations import OperationWriter
from relay.store.sqlite.write.prune import Pruning
from relay.store.sqlite.write.receipts import Receipts
from relay.store.sqlite.write.reroute import Reroutes, Resends
from relay.store.sqlite.write.settle import Settles

_NO_RULES = PlatformRules()


def _shift_s(clock: Clock) -> float:
    """Return how far wall time is ahead of the relay clock; a clock that was given from outside shows wall time."""
    return wall_shift_s(clock.now(), wall_s()) if isinstance(clock, RelayClock) else 0.0


class Works:
    """The parts of one store; on the writing thread."""

    def __init__(
        self,
        identity: StoreIdentity,
        *,
        released: Callable[[], object],
        unopened: Callable[[str, Sequence[str]], object],
    ) -> None:
        """``released``: operations may go on. ``unopened``: what does not open is held. Both after the commit."""
        self.rules = StoreRules()
        self.seals = identity.seals
        self.names = Names(identity.secret, identity.platforms, identity.way)
        self.slots = Slots(partial(_shift_s, identity.clock))
        named: dict[str, Any] = {"names": self.names, "seals": self.seals}
        ids = identity.ids
        matches = Matches(released=released)
        self.claims = Claims(**named, slots=self.slots, matches=matches, unopened=unopened, ids=ids)
        self.claims.last_number, self.claims.last_attempt = identity.last_number, identity.last_attempt
        self.settles = Settles(**named, slots=self.slots, claims=self.claims, matches=matches, ids=ids)
        self.seals_rows = SealsRows(self.seals)
        self.forgets = forgets = Forgets(self.seals, self.seals_rows.wipe_after)
        self.expiring = Expiring(names=self.names, matches=matches)
        self.prunes = Pruning(
            names=self.names,
            slots=self.slots,
            rules=lambda: self.rules,
            drop_unused_keys=forgets.drop_unused_keys,
        )
        self.duties = partial(
            Duties,
            names=self.names,
            expiring=self.expiring,
            pruning=self.prunes,
            clock=identity.clock,
            leap=identity.leap,
        )
        self.space = Space(self.prunes.make_room)
        self.accepts = PostWriter(
            **named, rules=self.platform_rules, space=self.space, ids=ids, last_seq=identity.last_seq
        )
        self.cancels = Cancels(names=self.names, ids=ids)
        self.receipts = Receipts(**named, accepts=self.accepts, ids=ids)
        self.operations = OperationWriter(
            **named,
            forgets=forgets,
            matches=matches,
            settles=self.settles,
            reroutes=Reroutes(**named, accepts=self.accepts),
            resends=Resends(**named, accepts=self.accepts, ids=ids),
            rules=self.platform_rules,
            ids=ids,
        )

    def platform_rules(self, platform: str) -> PlatformRules:
        """Return the rules in force for a platform."""
        return self.rules.platforms.get(platform, _NO_RULES)
