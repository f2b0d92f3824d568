"""Comparisons where several hosts share the store: the owner of a platform runs them, any host is asked for them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from relay.admin.resources.reconcile_routes import Reconciler
from relay.core.errors import StoreError
from relay.core.raw import JsonObject
from relay.hosts.errands import Errands

_ASK: Final = "reconcile.ask"
_START: Final = "reconcile.start"
_LISTED: Final = "reconcile.listed"
_ONE: Final = "reconcile.one"
COMPARING: Final = frozenset((_ASK, _START, _LISTED, _ONE))
_PATIENCE_S: Final = 60.0  # a question waits for the limits of the platform


class SharedReconciler:
    """What the admin API uses in the place of this host's own comparisons. Its reports lie where they were made."""

    def __init__(
        self, local: Reconciler, errands: Errands, *, owns: Callable[[str], bool], compared: Callable[[], Iterable[str]]
    ) -> None:
        """``compared`` names the platforms of the section ``reconcile``."""
        self._local = local
        self._errands = errands
        self._owns = owns
        self._compared = compared

    async def ask(self, platform: str, question: JsonObject) -> JsonObject:
        """Ask the platform under its limits."""
        if self._is_here(platform):
            return await self._local.ask(platform, question)
        return dict(await self._errands.ask(platform, _ASK, longer_s=_PATIENCE_S, question=question))

    async def start(self, platform: str) -> JsonObject:
        """Start a run."""
        if self._is_here(platform):
            return await self._local.start(platform)
        return dict(await self._errands.ask(platform, _START))

    async def listed(self, platform: str | None) -> list[JsonObject]:
        """Return the runs, newest first: those of this host, and those that the owners of other platforms have."""
        found = {str(each["run"]): each for each in await self._local.listed(platform)}
        for name in self._elsewhere(platform):
            found.update({str(each["run"]): each for each in await self._told(name, _LISTED) or ()})
        return sorted(found.values(), key=lambda each: str(each["run"]), reverse=True)[:100]

    async def one(self, name: str) -> JsonObject | None:
        """Return a run with its differences, or None."""
        found = await self._local.one(name)
        for platform in self._elsewhere(None):
            found = found or await self._told(platform, _ONE, run=name)
        return found

    def _is_here(self, platform: str) -> bool:
        if platform not in self._compared():
            raise KeyError(platform)
        return self._owns(platform)

    def _elsewhere(self, platform: str | None) -> list[str]:
        return [name for name in self._compared() if platform in (None, name) and not self._owns(name)]

    async def _told(self, platform: str, verb: str, **words: Any) -> Any:
        try:
            return await self._errands.ask(platform, verb, **words)
        except (StoreError, KeyError):  # nobody owns it now: its runs are shown when somebody does
            return None


async def compare_here(local: Reconciler, platform: str, verb: str, words: Mapping[str, Any]) -> Any:
    """Do here what another host asked for."""
    match verb:
        case "reconcile.ask":
            return await local.ask(platform, words["question"])
        case "reconcile.start":
            return await local.start(platform)
        case "reconcile.listed":
            return await local.listed(platform)
        case _:
            return await local.one(words["run"])
