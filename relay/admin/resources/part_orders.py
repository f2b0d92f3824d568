"""Orders about a part of a platform: ``{"group": "17"}`` for one group, ``{"key": "991"}`` for one ordering key."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from relay.core.errors import NoGroups
from relay.core.model import Rate
from relay.core.raw import JsonObject, Record
from relay.web.refusal import Refusal

PARTS = ("group", "key")
_MOST_CHARS = 1024


class GroupControl(Protocol):
    """What delivery lets operators do with single groups. All survive a restart, and raise KeyError and NoGroups.

    The audit record ``deed`` is committed with each.
    """

    async def pause_group(self, name: str, group: str, reason: str, *, until: float | None, deed: Record) -> None:
        """Send nothing more for a group until resumed, or until a time on the relay clock."""
        ...

    async def resume_group(self, name: str, group: str, *, deed: Record) -> None:
        """End the pause of a group or, where there is none, its stop."""
        ...

    async def limit_group(
        self, name: str, group: str, rates: Sequence[Rate], *, until: float | None, reason: str, deed: Record
    ) -> None:
        """Hold a group under ``rates`` beside all other limits; without any, no longer."""
        ...


class PlatformPart(NamedTuple):
    """One group, or one ordering key; the other is None."""

    group: str | None
    key: str | None


def read_part(given: JsonObject) -> PlatformPart | None:
    """Return which part of the platform an order is about; None: all of it. Raises 400 ``invalid_request``."""
    named = [name for name in PARTS if name in given]
    if not named:
        return None
    if len(named) > 1:
        raise Refusal("invalid_request", "'group' and 'key' contradict each other: send one of them", key="key")
    value = given[named[0]]
    if not isinstance(value, str) or len(value) > _MOST_CHARS:
        raise Refusal("invalid_request", f'\'{named[0]}\' must be a text: {{"{named[0]}": "991"}}', key=named[0])
    return PlatformPart(**{"group": None, "key": None, named[0]: value})


def no_key(part: PlatformPart, order: str) -> str:
    """Return the group that an order is about which no single key can be given. Raises 400 ``invalid_request``."""
    if part.group is None:
        raise Refusal("invalid_request", f"{order} is for a platform or a group of it, not for one key", key="key")
    return part.group


def without_groups(error: NoGroups) -> Refusal:
    """Return the problem of an order about a group of a platform that has none."""
    return Refusal("invalid_request", str(error), key="group")
