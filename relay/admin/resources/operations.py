"""Operations: one action over everything that matches a filter, started here and carried out by ``upkeep``."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import UNSET, UnsetType

from relay.admin import filters
from relay.admin.audit import Audit
from relay.admin.call import Call, flag, object_body
from relay.admin.filters import did_you_mean
from relay.admin.resources.platform_routes import PlatformRoutes
from relay.admin.standing.sight import Sight
from relay.admin.standing.times import WallTimes
from relay.config.problems import BadValue
from relay.config.reading.units import parse_rate
from relay.core.errors import CountMismatch, InHistory
from relay.core.model import Filter
from relay.core.raw import JsonObject, Record
from relay.views.operation_view import MatchCount, OperationOptions, OperationView
from relay.web.refusal import Refusal
from relay.web.response import Response, json_answer

ACTIONS = ("retry", "drop", "expire", "resolve", "resend")
RESOLUTIONS = ("delivered", "retry", "dead")
_KEYS = ("action", "filter", "expect_count", "rate", "reason", "as", "reorder", "run", "dry_run")
_MOST_RUN = 40  # characters: a run of reconcile has 19
_MOST_COUNT = 10**15  # far more than any store holds, and a number that every store can compare
_MOST_DIGITS = 18  # of an operation's number: what a store's integers hold
_NO_COUNT = -1  # fits no number of matches, so the store answers the count and does nothing


class OperationStore(Protocol):
    """The part of a store that operations need."""

    def start_operation(
        self,
        action: str,
        wanted: Filter,
        *,
        options: OperationOptions,
        expect_count: int | None,
        deed: Record | None = None,
    ) -> Awaitable[OperationView]:
        """Fix the matches and record the operation, with the audit record ``deed``. Raises ``CountMismatch``."""
        ...

    def operation(self, number: int) -> Awaitable[OperationView | None]:
        """Return an operation's progress."""
        ...

    def open_operations(self) -> Awaitable[list[int]]:
        """Return the unfinished ones."""
        ...


class OperationRoutes:
    """The routes about operations."""

    def __init__(
        self,
        *,
        operations: OperationStore,
        platforms: PlatformRoutes,
        audit: Audit,
        sight: Sight,
        times: WallTimes,
        started: Callable[[], None],
        expires_s: Callable[[str], float | None],
    ) -> None:
        """``expires_s`` returns in what time a platform's callbacks must be delivered; None: there is none such."""
        self._operations = operations
        self._platforms = platforms
        self._audit = audit
        self._sight = sight
        self._times = times
        self._started = started
        self._expires_s = expires_s

    async def start(self, call: Call) -> Response:
        """POST /v1/operations. With ``"dry_run": true`` it only counts the matches."""
        body = object_body(call.body, allowed=_KEYS)
        action = _word(body, "action", ACTIONS)
        given = body.get("filter", {})
        if not isinstance(given, dict):
            raise Refusal("invalid_request", '\'filter\' must be an object such as {"platform": "shop-a"}')
        wanted = filters.parse(given, now=self._times.now(), shift_s=self._times.shift_s)
        await self._platforms.check_known(wanted.platform)
        expect = body.get("expect_count")
        if expect is not None and (type(expect) is not int or not 0 <= expect <= _MOST_COUNT):
            raise Refusal("invalid_request", f"'expect_count' must be a whole number up to {_MOST_COUNT}")
        options = self._options(call, action, body, wanted)
        if flag(body, "dry_run"):
            return json_answer(MatchCount(action=action, matched=await self._count(action, wanted, options)))
        if not given and expect is None:
            raise Refusal(
                "invalid_request", f"an empty filter means every callback: say 'expect_count' to {action} them all"
            )
        deed = self._audit.deed(
            call.who,
            f"operation.{action}",
            _target(given),
            reason=body.get("reason", ""),
            filter=given,
            expect_count=expect,
        )
        try:
            operation = await self._operations.start_operation(
                action, wanted, options=options, expect_count=expect, deed=deed
            )
        except CountMismatch as error:
            raise Refusal("count_mismatch", str(error), expected=error.expected, found=error.found) from error
        except InHistory as error:
            raise Refusal("in_history", str(error)) from error
        self._audit.tell(deed)
        self._started()
        operation = self._sight.operation(call.who.view, operation)
        return self._times.answer(operation, status=202, headers={"Location": f"/v1/operations/{operation.id}"})

    async def one(self, call: Call) -> Response:
        """GET /v1/operations/{id}."""
        text = call.params["id"]
        known = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
        found = await self._operations.operation(int(text)) if known else None
        if found is None:
            raise Refusal("unknown_operation", f"no operation '{text[:40]}'")
        return self._times.answer(self._sight.operation(call.who.view, found))

    async def _count(self, action: str, wanted: Filter, options: OperationOptions) -> int:
        try:
            await self._operations.start_operation(action, wanted, options=options, expect_count=_NO_COUNT)
        except CountMismatch as error:
            return error.found
        except InHistory as error:
            raise Refusal("in_history", str(error)) from error
        raise AssertionError("a store started an operation although its count did not fit")

    def _options(self, call: Call, action: str, body: JsonObject, wanted: Filter) -> OperationOptions:
        """Return what is kept with the operation; who started it stands there too."""
        verdict: str | UnsetType = UNSET
        if action == "resolve":
            verdict = _word(body, "as", RESOLUTIONS)
        elif "as" in body:
            raise Refusal("invalid_request", "'as' belongs to the action 'resolve'")
        if "rate" in body:
            rate = body["rate"]
            try:
                parse_rate(rate)
            except BadValue as error:
                raise Refusal("invalid_request", f"'rate': {error.message}; {error.hint}") from error
        run = body.get("run", UNSET)
        if action == "resend":
            if not wanted.ids or wanted.platform is None:
                raise Refusal("invalid_request", "'resend' needs a filter of 'platform' and 'ids'", key="filter")
            if run is not UNSET and (not isinstance(run, str) or not 0 < len(run) <= _MOST_RUN):
                raise Refusal("invalid_request", f"'run' must be a text of up to {_MOST_RUN} characters", key="run")
        elif run is not UNSET:
            raise Refusal("invalid_request", "'run' belongs to the action 'resend'", key="run")
        expires_s = self._expires_s(wanted.platform or "") if action == "resend" else None
        return OperationOptions(
            who=call.who.name,
            reason=body.get("reason", ""),
            verdict=verdict,
            rate=body.get("rate", UNSET),
            run=run,
            expires_s=UNSET if expires_s is None else expires_s,
            reorder=flag(body, "reorder") or UNSET,
        )


def _word(body: JsonObject, key: str, known: tuple[str, ...]) -> str:
    word = body.get(key)
    if not isinstance(word, str) or word not in known:
        if word is None:
            raise Refusal("invalid_request", f"'{key}' is missing; one of: {', '.join(known)}", key=key)
        shown = str(word)[:80]
        raise Refusal("invalid_request", f"'{key}' is {shown!r}{did_you_mean(shown, known)}", key=key)
    return word


def _target(given: JsonObject) -> str:
    return str(given.get("platform") or "*")
