"""What happened in spans of time: what a store keeps of each minute, and the series operators are shown."""

from collections.abc import Iterable
from typing import Annotated

from msgspec import Struct, field

from relay.views.moments import Instant, told

COLUMNS = (
    *("accepted", "delivered", "dead", "expired", "superseded"),
    *("requests", "refused", "failed", "pending", "oldest_due_s", "raw_bytes", "wire_bytes"),
)
"""The columns of a series, in their order."""


class QueueLevel(Struct, frozen=True, kw_only=True):
    """A platform's durable totals at one moment, and since when its oldest callback could have been sent."""

    accepted: int = 0
    delivered: int = 0
    dead: int = 0
    expired: int = 0
    superseded: int = 0
    oldest_due_at: float | None = None

    @property
    def pending(self) -> int:
        """Callbacks without a final state: what was accepted and has not ended."""
        return self.accepted - self.delivered - self.dead - self.expired - self.superseded


class RequestCounts(Struct, frozen=True, kw_only=True):
    """Requests to a platform, their bytes and the callbacks they delivered late; counted in memory."""

    requests: int = 0
    refused: int = 0  # the platform answered no: throttled, not let in, rejected
    failed: int = 0  # no answer, a server error, or an answer nobody knows
    raw_bytes: int = 0
    wire_bytes: int = 0
    late: int = 0  # delivered later than the platform's objective allows

    def less(self, before: "RequestCounts") -> "RequestCounts":
        """Return what was counted since ``before``."""
        return RequestCounts(
            requests=self.requests - before.requests,
            refused=self.refused - before.refused,
            failed=self.failed - before.failed,
            raw_bytes=self.raw_bytes - before.raw_bytes,
            wire_bytes=self.wire_bytes - before.wire_bytes,
            late=self.late - before.late,
        )


class MinuteCounts(Struct, frozen=True, kw_only=True):
    """What a store is given to keep with a minute of one platform, beside what its own totals tell."""

    counts: RequestCounts
    oldest_due_s: float  # at the end of the minute; 0: nothing was due


class Sampled(Struct, frozen=True, kw_only=True):
    """What happened to one platform, or to all, in the span that began ``at`` (relay clock)."""

    at: float
    accepted: int = 0
    delivered: int = 0
    dead: int = 0  # below 0 where a person took more back than died
    expired: int = 0
    superseded: int = 0
    pending: int = 0  # at the end of the span
    oldest_due_s: float | None = None  # at the end of the span; None: not known
    counts: RequestCounts = RequestCounts()


class SeriesView(Struct, frozen=True, kw_only=True):
    """``GET /v1/platforms/{platform}/series``: one row for each span, the running one last."""

    step_s: Annotated[int, told("seconds of a row")]
    start: Annotated[Instant, told("when the first row begins")] = field(name="from")
    columns: Annotated[list[str], told("what stands in a row, in this order")]
    rows: Annotated[
        list[list[int | float | None]],
        told("counts of the span; pending and oldest_due_s at its end; all null: the relay was down"),
    ]


def change(at: float, before: QueueLevel, after: QueueLevel) -> Sampled:
    """Return what happened between two moments; ``at``: when the span began."""
    return Sampled(
        at=at,
        accepted=after.accepted - before.accepted,
        delivered=after.delivered - before.delivered,
        dead=after.dead - before.dead,
        expired=after.expired - before.expired,
        superseded=after.superseded - before.superseded,
        pending=after.pending,
    )


def together(at: float, spans: Iterable[Sampled]) -> Sampled:
    """Return spans that follow each other as one that began ``at``."""
    spans = list(spans)
    due = [span.oldest_due_s for span in spans if span.oldest_due_s is not None]
    return _summed(at, spans, pending=spans[-1].pending, oldest_due_s=max(due, default=None))


def side_by_side(at: float, spans: Iterable[Sampled]) -> Sampled:
    """Return the same span of several platforms as that of all."""
    spans = list(spans)
    due = [span.oldest_due_s for span in spans if span.oldest_due_s is not None]
    return _summed(at, spans, pending=sum(span.pending for span in spans), oldest_due_s=max(due, default=0.0))


def _summed(at: float, spans: list[Sampled], *, pending: int, oldest_due_s: float | None) -> Sampled:
    return Sampled(
        at=at,
        accepted=sum(span.accepted for span in spans),
        delivered=sum(span.delivered for span in spans),
        dead=sum(span.dead for span in spans),
        expired=sum(span.expired for span in spans),
        superseded=sum(span.superseded for span in spans),
        pending=pending,
        oldest_due_s=oldest_due_s,
        counts=summed(span.counts for span in spans),
    )


def summed(counts: Iterable[RequestCounts]) -> RequestCounts:
    """Return several counts as one."""
    found = list(counts)
    return RequestCounts(
        requests=sum(each.requests for each in found),
        refused=sum(each.refused for each in found),
        failed=sum(each.failed for each in found),
        raw_bytes=sum(each.raw_bytes for each in found),
        wire_bytes=sum(each.wire_bytes for each in found),
        late=sum(each.late for each in found),
    )
