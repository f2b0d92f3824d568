"""Carries the gate of a platform along with its settlements, where a restart would miss what changed."""

from dataclasses import replace
from typing import Final

from relay.core.raw import Kept
from relay.core.settlement import Settlement
from relay.limits.learner import Learner
from relay.policy.gate.platform import Gate

_LAG_S: Final = 30.0  # ``last_accepted_at`` alone is written this often at most


class KeptGate:
    """Knows what of ``gate`` and ``learner`` lies in the store."""

    def __init__(self, gate: Gate, learner: Learner) -> None:
        self._gate = gate
        self._learner = learner
        self._mark, self._accepted_kept_at = gate.mark(), gate.last_accepted_at

    def whole(self) -> Kept:
        """Return what a restart must know: the gate and what was learned."""
        return {**self._gate.dump(), "learned": self._learner.dump()}

    def carried_by(self, settlement: Settlement) -> Settlement:
        """Return the settlement with the gate in it, if that changed since the last one that carried it."""
        gate = self._gate
        mark, accepted_at, groups = gate.mark(), gate.last_accepted_at, gate.groups.take_changes()
        fresh = accepted_at - self._accepted_kept_at < _LAG_S
        if fresh and not groups and mark == self._mark and not self._learner.unkept:
            return settlement
        self._mark, self._accepted_kept_at = mark, accepted_at
        kept = {**gate.dump_own(), "learned": self._learner.dump()}
        return replace(settlement, gate={**kept, "groups": groups} if groups else kept)
