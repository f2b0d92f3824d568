"""Decides where a routed post goes, by the compiled ``routes:``. Pure; a payload is decoded once at most.

Routes are tried in their order. The first that matches decides alone; it may name several platforms. A ``match`` holds
when all its conditions hold. The condition ``event`` is about the name the client gave; every other condition is a
JMESPath into the payload. A payload that is not JSON matches no condition on a field.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relay.core.errors import Unfit
from relay.wire.payload.extract import InvalidJson, TreePath, parse_json, text_of

EVENT: Final = "event"
"""The key of ``match`` that means the event's name; a payload's own field of that name is ``@.event``."""

_UNREAD: Final = object()
_NOT_JSON: Final = object()


@dataclass(frozen=True, slots=True)
class Route:
    """One compiled route. ``label`` is its place in the configuration; ``to`` its platforms, empty to reject."""

    label: str
    to: tuple[str, ...]
    events: tuple[tuple[str, ...], ...] | None = (
        None  # for each glob the texts between its stars: ("order.", "") for order.*
    )
    fields: tuple[tuple[TreePath, frozenset[str | None]], ...] = ()


def compile_route(label: str, match: Mapping[str, Sequence[Any]], to: Sequence[str]) -> Route:
    """Compile one route; ``match`` gives the values that each condition takes.

    Values are compared as text, as a platform's ordering key is read: 12 equals "12", true does not equal 1. Null also
    matches an absent field. Raises ``ValueError`` for a JMESPath that does not compile.
    """
    events = match.get(EVENT)
    return Route(
        label=label,
        to=tuple(to),
        events=None if events is None else tuple(tuple(glob.split("*")) for glob in events),
        fields=tuple(
            (TreePath(path), frozenset(text_of(value) for value in values))
            for path, values in match.items()
            if path != EVENT
        ),
    )


def _fits(glob: Sequence[str], event: str) -> bool:
    """Return whether ``event`` matches a glob, given as the texts between its stars. A star is any text, with dots.

    Each text is looked for once, at its first place, so the time grows with the event and not with the stars.
    """
    first, *between, last = glob if len(glob) > 1 else (*glob, "")
    if len(glob) == 1:
        return event == first
    at, end = len(first), len(event) - len(last)
    if at > end or not event.startswith(first) or not event.endswith(last):
        return False
    for text in between:
        found = event.find(text, at, end)
        if found < 0:
            return False
        at = found + len(text)
    return True


class Routing:
    """The routes in force."""

    __slots__ = ("_otherwise", "_routes")

    def __init__(self, routes: Sequence[Route] = (), *, otherwise: Sequence[str] = ()) -> None:
        """``otherwise`` is for a post that no route matches; without platforms it rejects the post."""
        self._routes = tuple(routes)
        self._otherwise = Route("otherwise", tuple(otherwise))

    @property
    def searches(self) -> bool:
        """Whether a route looks into payloads."""
        return any(route.fields for route in self._routes)

    @property
    def empty(self) -> bool:
        """Whether there is neither a route nor an ``otherwise``."""
        return not self._routes and not self._otherwise.to

    def choose(self, payload: bytes, event: str | None) -> Route:
        """Return the route that decides about a post; never raises."""
        tree: Any = _UNREAD
        for route in self._routes:
            if route.events is not None and (event is None or not any(_fits(glob, event) for glob in route.events)):
                continue
            if route.fields:
                if tree is _UNREAD:
                    tree = _decoded(payload)
                if tree is _NOT_JSON or not _holds(route, tree):
                    continue
            return route
        return self._otherwise


def _decoded(payload: bytes) -> Any:
    try:
        return parse_json(payload)
    except InvalidJson:
        return _NOT_JSON


def _holds(route: Route, tree: Any) -> bool:
    try:
        return all(path(tree) in wanted for path, wanted in route.fields)
    except (InvalidJson, Unfit):  # nested too deeply, or too much, to be searched
        return False
