"""The limits in force: the configuration's quotas and, beside them, what was learned, declared or set while running."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from relay.core.model import Quota, StoreRules


class Rules(Protocol):
    """The part of a store that holds the rules."""

    async def configure(self, rules: StoreRules) -> None:
        """Put rules in force, strict over what was sent."""
        ...


class QuotaRules:
    """Puts rules into a store; what one platform's pipeline found out and a reload never undo each other."""

    def __init__(self, store: Rules) -> None:
        self._store = store
        self._rules = StoreRules()
        self._found: dict[str, tuple[Quota, ...]] = {}
        self._one_at_a_time = asyncio.Lock()

    async def configure(self, rules: StoreRules) -> None:
        """Put the rules of another configuration in force, under what is known of its platforms."""
        async with self._one_at_a_time:
            found = {name: quotas for name, quotas in self._found.items() if name in rules.platforms}
            await self._store.configure(_merged(rules, found))
            self._rules, self._found = rules, found

    async def put(self, platform: str, quotas: Sequence[Quota]) -> None:
        """Enforce ``quotas`` on a platform, in place of those put before; ``StoreError`` changes nothing."""
        async with self._one_at_a_time:
            if self._found.get(platform, ()) == tuple(quotas) or platform not in self._rules.platforms:
                return
            found = {**self._found, platform: tuple(quotas)}
            await self._store.configure(_merged(self._rules, found))
            self._found = found


def _merged(rules: StoreRules, found: dict[str, tuple[Quota, ...]]) -> StoreRules:
    quotas, platforms = dict(rules.quotas), dict(rules.platforms)
    for name, own in found.items():
        quotas.update((quota.name, quota) for quota in own)
        platform = platforms[name]
        platforms[name] = replace(platform, quotas=(*platform.quotas, *(quota.name for quota in own)))
    return replace(rules, quotas=quotas, platforms=platforms)
