"""One operation: what a person does to every callback that fits a filter, and how far it has come."""

from dataclasses import asdict
from typing import Annotated

from msgspec import UNSET, Struct, UnsetType, structs

from relay.core.model import Filter
from relay.views.moments import Instant, read, told


class FilterView(Struct, frozen=True, kw_only=True):
    """What a callback must be to be meant. A key that is left out fits every callback."""

    platform: Annotated[str | UnsetType, told("where it goes")] = UNSET
    state: Annotated[str | UnsetType, told("pending, delivered, dead, expired, superseded")] = UNSET
    key: Annotated[str | UnsetType, told("its ordering key")] = UNSET
    event: Annotated[str | UnsetType, told("name of its event")] = UNSET
    reason: Annotated[str | UnsetType, told("why it is in its state")] = UNSET
    code: Annotated[str | UnsetType, told("what its rule met in the answer")] = UNSET
    ids: Annotated[list[str] | UnsetType, told("its id is one of these")] = UNSET
    since: Annotated[Instant | UnsetType, told("accepted then or later")] = UNSET
    until: Annotated[Instant | UnsetType, told("accepted before")] = UNSET
    dropped: Annotated[bool | UnsetType, told("true: its payload was deleted by a person")] = UNSET


class OperationOptions(Struct, frozen=True, kw_only=True, rename={"verdict": "as"}):
    """How an operation is carried out, and who started it. What was not said is left out."""

    who: Annotated[str | UnsetType, told("who started it")] = UNSET
    reason: Annotated[str | UnsetType, told("why, for the audit record")] = UNSET
    verdict: Annotated[str | UnsetType, told("of resolve: what became of the callbacks: delivered, retry, dead")] = (
        UNSET
    )
    rate: Annotated[str | UnsetType, told("at most so many callbacks in a time: 50/min")] = UNSET
    run: Annotated[str | UnsetType, told("of resend: the comparison that found them")] = UNSET
    expires_s: Annotated[float | UnsetType, told("of resend: seconds in which they must be delivered")] = UNSET
    reorder: Annotated[bool | UnsetType, told("true: also what a newer callback of its key has overtaken")] = UNSET


PLAIN = OperationOptions()


class OperationView(Struct, frozen=True, kw_only=True):
    """An operation: its matches were fixed when it started and are worked off in steps."""

    id: Annotated[int, told("counts operations, from 1")]
    action: Annotated[str, told("retry, drop, expire, resolve, forget, resend")]
    state: Annotated[str, told("running or done")]
    matched: Annotated[int, told("callbacks that fitted when it started")]
    done: Annotated[int, told("of these, callbacks that it was applied to")]
    skipped: Annotated[dict[str, int], told("of these, callbacks that were left as they are, counted by reason")]
    failed: Annotated[list[str], told("ids of skipped callbacks, the first 100")]
    history: Annotated[
        int | UnsetType, told("of forget: callbacks in history files that it was applied to so far, by their hosts")
    ] = UNSET
    waiting: Annotated[int, told("callbacks in a batch that must be settled first")]
    started_at: Annotated[Instant, told("when it started")]
    finished_at: Annotated[Instant | None, told("when its last match was worked off; null while it runs")]
    filter: Annotated[FilterView, told("what its matches had to be")]
    options: Annotated[OperationOptions, told("how it is carried out")]

    @property
    def worked_off(self) -> int:
        """Matches that are done or skipped."""
        return self.done + sum(self.skipped.values())


class OperationPage(Struct, frozen=True):
    """One page of operations, newest first."""

    items: Annotated[list[OperationView], told("may be empty although there are more")]
    next: Annotated[str | None, told("cursor of the next page; null: this was the last")]


class MatchCount(Struct, frozen=True, kw_only=True):
    """Answer to an operation with ``dry_run``: nothing was done."""

    action: Annotated[str, told("as it was asked")]
    dry_run: Annotated[bool, told("always true")] = True
    matched: Annotated[int, told("callbacks that it would be applied to")]


def filter_of(view: FilterView) -> Filter:
    """Return the filter that a view shows."""
    given = structs.asdict(view)
    kept = {name: value for name, value in given.items() if value is not UNSET}
    return Filter(**{**kept, "ids": tuple(kept.get("ids", ()))})


def filter_view(wanted: Filter) -> FilterView:
    """Return a filter as it is kept and shown: without the keys that say nothing."""
    return read(FilterView, {name: value for name, value in asdict(wanted).items() if value})
